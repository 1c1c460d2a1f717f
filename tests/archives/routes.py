"""Several fake archives on one server."""

from collections.abc import Mapping

from .server import App, Reply, Request, html


def routes(by_prefix: Mapping[str, App]) -> App:
    """The app whose prefix the path has; 404 with a page if none does."""

    def app(request: Request) -> Reply:
        for prefix, fake in by_prefix.items():
            if request.path.startswith(prefix):
                return fake(request)
        return html(404)

    return app
