"""How a group of routes is added to the application, with its own form of errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from birefnet.errors import needs_extra

with needs_extra("serve", __name__):
    from fastapi import APIRouter, FastAPI

from birefnet.serving.errors import ErrorForms, Form
from birefnet.serving.native import describe
from birefnet.serving.service import Service


class Registry:
    """The application while its routes are added.

    Attributes:
        service: what does the work of the routes.
        page_endpoints: of the page, for programs that use gradio_client; by name, see
            `birefnet.serving.page.endpoints.Endpoint`.
    """

    def __init__(self, app: FastAPI, service: Service, forms: ErrorForms) -> None:
        self.service = service
        self.page_endpoints: dict[str, Callable[..., Awaitable[tuple[bytes, str]]]] = {}
        self._app, self._forms = app, forms

    def add(
        self,
        router: APIRouter,
        *,
        error_forms: Mapping[str, Form] | None = None,
        error_schema: dict[str, object] = describe.ERROR,
    ) -> None:
        """Add routes.

        Args:
            router: the routes.
            error_forms: from the beginning of a path to the function that writes a failure there;
                `None` for the server's own form.
            error_schema: the JSON schema of these errors, for the OpenAPI document.
        """
        self._app.include_router(router, responses=describe.errors_like(error_schema))
        for prefix, form in (error_forms or {}).items():
            self._forms.add(prefix, form)
