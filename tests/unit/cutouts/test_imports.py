"""What a training process loads."""

import subprocess
import sys


def test_reading_a_corpus_needs_neither_astropy_nor_torch():
    heavy = {"astropy", "torch", "transformers", "pandas", "sklearn", "scipy", "PIL"}
    code = (
        "import sys, stradavit.cutouts.corpus, stradavit.cutouts.benchmark;"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
