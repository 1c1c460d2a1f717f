"""How archives are spoken to: where they are, how often, how patiently; never what is wanted.

All of this decides where bytes come from and how fast, so it is handed to jobs as the loader's
settings are: outside the parameters, where a change replans nothing.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from stradavit.settings.base import SECRET, Block, Count, Positive

Missing = Annotated[
    int,
    Field(ge=0, description="Most products an archive may refuse before the stage fails."),
]
Seconds = Annotated[float, Field(ge=0.0)]


def _without_slash(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError("is no web address; write it with http:// or https://")
    if "@" in url.split("/")[2]:
        raise ValueError("holds a user name; credentials come from the environment, not from here")
    if SECRET.search(url.partition("?")[2]):
        raise ValueError("holds what reads as a secret; addresses are shown in logs and in `ps`")
    return url.rstrip("/")


def _fit_for_a_header(contact: str) -> str:
    if not (contact.isascii() and contact.isprintable()):
        raise ValueError("goes into a header of every request; write it on one line of plain ASCII")
    return contact


Contact = Annotated[str, AfterValidator(_fit_for_a_header)]
BaseUrl = Annotated[str, AfterValidator(_without_slash)]


class ArchiveUrls(Block):
    """Addresses of the archives; a mirror or a local server can stand in for each."""

    mgcls: BaseUrl = Field(
        "https://archive-gw-1.kat.ac.za/public", description="Object store of MGCLS, with bucket."
    )
    casda_tap: BaseUrl = Field(
        "https://casda.csiro.au/casda_vo_tools/tap", description="CASDA's TAP service."
    )
    casda_login: BaseUrl = Field(
        "https://data.csiro.au/casda_vo_proxy/vo", description="CASDA's services behind the login."
    )
    casda_data: BaseUrl = Field(
        "https://casda.csiro.au/casda_data_access/data", description="CASDA's staging jobs."
    )
    lotss_tap: BaseUrl = Field("https://vo.astron.nl/tap", description="List of LoTSS fields.")
    lotss_files: BaseUrl = Field(
        "https://lofar-surveys.org/public/DR2/mosaics",
        description="Mosaics of LoTSS by field, or a template with {field} and {product}.",
    )
    lotss_cutouts: BaseUrl = Field(
        "https://lofar-surveys.org", description="Cutout service of LoTSS."
    )
    sdc1: BaseUrl = Field(
        "https://owncloud.ia2.inaf.it/index.php/s", description="Shares of SKA Data Challenge 1."
    )
    first: BaseUrl = Field(
        "https://sundog.stsci.edu/cgi-bin/firstcutout", description="Cutout service of FIRST."
    )
    zenodo: BaseUrl = "https://zenodo.org"
    vizier: BaseUrl = "https://vizier.cds.unistra.fr"
    cds: BaseUrl = Field(
        "https://cdsarc.cds.unistra.fr/ftp", description="Catalogues as files, by their CDS name."
    )
    mirabest: BaseUrl = "http://www.jb.man.ac.uk/research/MiraBest"
    hub: BaseUrl = Field("https://huggingface.co", description="Hugging Face hub.")
    kaggle: BaseUrl = "https://www.kaggle.com"


class ArchiveSettings(Block):
    """Manners and patience of downloads; changing them replans nothing."""

    contact: Contact | None = Field(
        None, description="E-mail address or page told to archives, so that they can reach you."
    )
    attempts: Count = Field(5, description="Tries of one request before it is given up.")
    timeout_s: Positive = Field(60.0, description="Longest silence of a server.")
    backoff_s: Seconds = Field(1.0, description="Wait before the second try; doubles each time.")
    backoff_max_s: Seconds = Field(
        60.0, description="Longest such wait; a server may ask for up to ten times as much."
    )
    streams: Count = Field(2, description="Parallel requests to one host.")
    pause_s: Seconds = Field(0.2, description="Least time between the starts of two requests.")
    max_small_mb: Positive = Field(64.0, description="Largest list or table taken into memory.")
    file_gb: Positive = Field(
        100.0, description="Largest file whose size the archive does not tell, in 10⁹ bytes."
    )
    poll_s: Seconds = Field(20.0, description="Time between looks at a staging job.")
    job_timeout_h: Positive = Field(24.0, description="Longest wait for a staging job.")
    unpack_members: Count = Field(200_000, description="Most files an archive file may hold.")
    unpack_gb: Positive = Field(200.0, description="Most bytes it may unpack to, in 10⁹.")
    urls: ArchiveUrls = ArchiveUrls()
