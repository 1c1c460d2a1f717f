"""Where pixels come from: manifests of surveys, ledgers of what was acquired, labels."""
