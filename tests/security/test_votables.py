"""A VOTable is read, and nothing it points at."""

from pathlib import Path

import pytest
from astropy.io import votable as astropy_votable

from stradavit.acquire.archives.casda_jobs import read_job
from stradavit.acquire.archives.s3 import parse_page
from stradavit.acquire.archives.votable import read_votable
from stradavit.errors import DataError

LETTERS = 14


def table(data: str, field: str = f'datatype="char" arraysize="{LETTERS}"', rows: str = "") -> str:
    return (
        '<?xml version="1.0"?><VOTABLE version="1.3"><RESOURCE type="results">'
        f'<TABLE{rows}><FIELD name="a" ID="a" {field}/><DATA>{data}</DATA></TABLE>'
        "</RESOURCE></VOTABLE>"
    )


STREAMS = [
    '<STREAM href="{0}"/>',
    # A `>` in an attribute is legal, and led a pattern past what follows.
    '<STREAM type=">" href="{0}"/>',
    "<STREAM type='<' href='{0}'/>".replace("<'", "&lt;'"),
    '<STREAM\nactuate="onRequest"\n\thref = "{0}"/>',
    '<STREAM href="&#102;{1}"/>',
]


@pytest.mark.parametrize("stream", STREAMS)
def test_files_of_this_disk_are_not_read(tmp_path: Path, stream: str) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("x" * LETTERS)
    address = secret.as_uri()
    text = table(f"<BINARY>{stream.format(address, address[1:])}</BINARY>")
    # The reader itself would do it, or this test proves nothing.
    source = tmp_path / "answer.xml"
    source.write_text(text)
    read = astropy_votable.parse(str(source), verify="ignore").get_first_table().array
    assert str(read["a"][0]) == "x" * LETTERS
    with pytest.raises(DataError, match=r"which no archive has reason to send\. It is not read"):
        read_votable(text, "TAP")


@pytest.mark.parametrize("kind", ["FITS", "PARQUET", "v:FITS"])
def test_other_formats_inside_are_not_read(kind: str) -> None:
    text = table(f'<{kind}><STREAM href="http://127.0.0.1:9/x"/></{kind}>')
    with pytest.raises(DataError, match="It is not read"):
        read_votable(text.replace("<VOTABLE", '<VOTABLE xmlns:v="u"'), "TAP")


@pytest.mark.parametrize(
    "text",
    [
        table("<TABLEDATA/>", rows=' nrows="999999999999999999999"'),
        table("<TABLEDATA/>", field='datatype="double" arraysize="99999x99999"'),
        table("<TABLEDATA>" + "<TR/>" * 5000 + "</TABLEDATA>", 'datatype="char" arraysize="99999"'),
    ],
    ids=["rows", "cells", "empty rows"],
)
def test_claims_of_size_are_not_believed(text: str) -> None:
    with pytest.raises(DataError, match=r"claims a table of .* values; at most"):
        read_votable(text, "TAP")


LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "]>"
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY j SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("declared", [LAUGHS, OUTSIDE], ids=["expanding", "from a file"])
def test_entities_are_refused_wherever_xml_is_read(declared: str) -> None:
    with pytest.raises(DataError, match="DOCTYPE"):
        read_votable(f"{declared}<VOTABLE>&j;</VOTABLE>", "TAP")
    with pytest.raises(DataError, match="DOCTYPE"):
        read_job(f"{declared}<job>&j;</job>")
    with pytest.raises(DataError, match="DOCTYPE"):
        parse_page(f"{declared}<ListBucketResult>&j;</ListBucketResult>", "S3", "Try again.")
