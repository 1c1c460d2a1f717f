"""When two images count as showing the same sky."""

from typing import Annotated

from pydantic import Field

from stradavit.settings.base import Block, Count, Positive

Share = Annotated[float, Field(gt=0.0, le=1.0)]


class DuplicateSettings(Block):
    """Agreement of content. The defaults were measured on FIRST images of known positions."""

    least_similarity: Share = Field(
        0.8, description="Correlation of the local contrasts where two images overlap."
    )
    least_evidence: Positive = Field(
        16.0,
        description="Bits that an agreement must be worth: for every structure of the size of a "
        "beam beyond the first, log2(1 / (1 - similarity)). A lone point source is worth nothing.",
    )
    least_overlap: Share = Field(0.2, description="Area in common, of the smaller image's.")
    memory_mb: Count = Field(512, description="Contrasts of images that are kept at hand.")


class LeakageSettings(Block):
    """What counts as the same sky in two images of a benchmark."""

    same_source_arcsec: Positive = Field(
        10.0,
        description="Images whose positions are closer show one source: catalogues place a source "
        "within a few arcsec, and its neighbours are a beam or more away.",
    )
    content: DuplicateSettings = DuplicateSettings()
    examples: Count = Field(20, description="Most pairs that the report lists by name.")
