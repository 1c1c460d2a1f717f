#!/usr/bin/env bash
# The package itself, from the checkout the workflow runs in; its needs are in the environment.
set -euo pipefail
python -m pip install --no-deps .
