"""The model card of an encoder folder, read without loading torch."""

import json
import re
from pathlib import Path
from typing import Any


def read_card(folder: Path) -> dict[str, Any]:
    """The provenance in a model card of ours; empty for folders from elsewhere."""
    path = Path(folder) / "README.md"
    if not path.is_file():
        return {}
    block = re.search(r"^```json\n(.*?)^```$", path.read_text("utf-8", "replace"), re.M | re.S)
    try:
        card = json.loads(block.group(1)) if block else {}
    except json.JSONDecodeError:
        return {}
    return card if isinstance(card, dict) else {}
