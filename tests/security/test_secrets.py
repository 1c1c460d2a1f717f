"""Passwords that somebody puts into the settings all the same: refused, and not repeated.

What is said of requests is in tests/unit/acquire/transfer/test_secrets.py.
"""

import pytest

from stradavit.errors import SettingsError
from stradavit.settings.archives import ArchiveSettings

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("key", "url", "message"),
    [
        ("casda_tap", f"https://me:{PASSWORD}@casda.org/tap", "holds a user name"),
        ("mgcls", f"me:{PASSWORD}@archive.org", "is no web address"),
        ("casda_login", f"me:{PASSWORD}@casda.org", "is no web address"),
        (
            "mgcls",
            f"https://a.org/x?X-Amz-Signature=1&token={PASSWORD}",
            "holds what reads as a secret",
        ),
        ("hub", f"https://a.org/?api_key={PASSWORD}", "holds what reads as a secret"),
    ],
)
def test_settings_hold_no_password_and_tell_none(key: str, url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"urls.{key}: {message}") as caught:
        ArchiveSettings.parse({"urls": {key: url}})
    assert PASSWORD not in str(caught.value)


def test_unknown_keys_that_sound_secret_are_named_only() -> None:
    with pytest.raises(SettingsError, match="password: unknown key") as caught:
        ArchiveSettings.parse({"password": PASSWORD})
    assert PASSWORD not in str(caught.value)


def test_other_addresses_are_told() -> None:
    with pytest.raises(SettingsError, match=r"is no web address.*found 'ftp://a\.org'"):
        ArchiveSettings.parse({"urls": {"mgcls": "ftp://a.org"}})
    urls = ArchiveSettings.parse({"urls": {"lotss_files": "https://a.org/get?f={product}"}}).urls
    assert urls.lotss_files == "https://a.org/get?f={product}"
