"""The model that answers a request of another service's client, and the headers that say so."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from fnmatch import fnmatchcase
from weakref import WeakKeyDictionary

from birefnet.serving.answers import in_header
from birefnet.serving.errors import UnknownModel
from birefnet.serving.service import Service

log = logging.getLogger("birefnet.serving")

_logged: WeakKeyDictionary[Service, set[str]] = WeakKeyDictionary()


def model_for(
    service: Service, requested: str | None, names: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The name of the model, and headers of the answer.

    `X-Model` is the model. `X-Model-Requested` repeats the client's name where the default model
    answers instead, which is logged once for each name.

    Args:
        requested: the name that the client sent, if any.
        names: that such clients send by themselves (* for any characters), each with the model
            here that it means, or "". Where this server does not offer that, the default model
            answers, unless `ServerSettings.strict_models` is set.

    Raises:
        UnknownModel: any other name that is not a model of this server.
    """
    pool = service.pool
    pattern = next((key for key in names if requested and fnmatchcase(requested, key)), None)
    headers: dict[str, str] = {}
    try:
        try:
            name = pool.name_of(requested)  # the operator's own names come first
        except UnknownModel:
            if pattern is None or not names[pattern]:
                raise
            name = pool.name_of(names[pattern])
    except UnknownModel:
        if requested is None or pattern is None or service.settings.strict_models:
            raise UnknownModel(
                f"this server has no model {(requested or '')[:80]!r}; it has "
                f"{', '.join(pool.names)}"
            ) from None
        name = pool.default
        headers["X-Model-Requested"] = in_header(requested[:100])
        if requested not in (logged := _logged.setdefault(service, set())) and len(logged) < 100:
            logged.add(requested)
            log.warning(
                "clients ask for the model %.100r, which is not offered here: %s answers "
                "(--also offers more models, --strict-models refuses such names)",
                requested,
                name,
            )
    return name, {"X-Model": in_header(name), **headers}
