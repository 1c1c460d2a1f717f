"""Logins of archives: from the environment or a keyring, never from settings or arguments."""

import os
from dataclasses import dataclass, field

from stradavit.errors import DataError

OPAL_USER = "STRADAVIT_OPAL_USER"
OPAL_PASSWORD = "STRADAVIT_OPAL_PASSWORD"

# The second is where astroquery keeps the login of those who let it store their password.
OPAL_SERVICES = ("stradavit:opal", "astroquery:casda.csiro.au")


@dataclass(frozen=True)
class Login:
    """User and password; neither is ever shown by `repr`."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def auth(self) -> tuple[str, str]:
        """As the transfer layer takes it."""
        return self.user, self.password


def opal_login() -> Login:
    """The OPAL login CASDA wants for every image.

    The environment goes first; the keyring is asked for what it leaves open: the password, or both.

    Raises
    ------
    DataError
        If there is none; the message says where it was looked for.
    """
    user = os.environ.get(OPAL_USER, "").strip()
    password = os.environ.get(OPAL_PASSWORD, "")
    if user and password:
        return Login(user, password)
    found, keyring_says = _from_keyring(user or None)
    if found is not None:
        return found
    absent = " and ".join(
        name for name, value in ((OPAL_USER, user), (OPAL_PASSWORD, password)) if not value
    )
    raise DataError(
        f"CASDA wants an OPAL login for every image, released ones too, and {absent} is not set; "
        f"{keyring_says}. Register free of charge at opal.atnf.csiro.au, then export {OPAL_USER} "
        f"(your e-mail address) and {OPAL_PASSWORD}, or store the password once with "
        f"`keyring set {OPAL_SERVICES[0]} <e-mail address>` and export {OPAL_USER} only."
    )


def _from_keyring(user: str | None) -> tuple[Login | None, str]:
    """Login in a keyring, and what to say if there is none."""
    try:
        import keyring  # not a dependency of its own: it comes with astroquery
    except ImportError:
        return None, "the package `keyring` is not installed"
    for service in OPAL_SERVICES:
        try:
            found = keyring.get_credential(service, user)
        except Exception as error:  # backends raise what their desktop raises
            return None, f"the keyring cannot be read ({type(error).__name__})"
        if found is not None and found.username and found.password:
            return Login(found.username, found.password), ""
    return None, f"the keyring has nothing for {' or '.join(OPAL_SERVICES)}"
