"""The OpenAPI document, made from the routes and from the shapes that requests are checked with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from mobilesam.core.schema import Shape
from mobilesam.core.version import __version__
from mobilesam.server.endpoints import Endpoint
from mobilesam.server.shapes import ERROR

ANY = (400, 401, 403, 408, 414, 421, 422, 429, 431, 500, 503, 504)  # any request may get these
JSON = "application/json"


def make_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Return the document of some routes."""
    paths: dict[str, dict[str, Any]] = {}
    for one in endpoints:
        paths.setdefault(one.path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MobileSAM",
            "version": __version__,
            "description": "Masks of what is pointed at. Coordinates are pixels of the upright image.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR.to_json()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(one: Endpoint) -> dict[str, Any]:
    parameters = [_parameter(name, "path", {"type": "string"}) for name in re.findall(r"\{(\w+)", one.path)]
    parameters += [_parameter(name, "query", shape.to_json()) for name, shape in one.query.items()]
    answer: dict[str, Any] = {"description": one.about}
    if one.answers:
        answer["content"] = {kind: _content(shape) for kind, shape in one.answers.items()}
    responses: dict[str, Any] = {str(one.status): answer}
    if one.status == 201:
        responses["200"] = {**answer, "description": "It is already there."}
    refused = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}
    for status in sorted({*ANY, *one.errors}):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, **refused}
    operation: dict[str, Any] = {"summary": one.about, "operationId": _name(one), "responses": responses}
    if parameters:
        operation["parameters"] = parameters
    bodies: dict[str, Any] = {kind: {"schema": {}} for kind in one.bodies}
    if one.body is not None:
        bodies[JSON] = _content(one.body)
    if bodies:
        operation["requestBody"] = {"required": True, "content": bodies}
    return operation


def _name(one: Endpoint) -> str:
    words = re.findall(r"\w+", one.path.replace("/v1/", "/"))
    return "_".join([one.method.lower(), *words])


def _parameter(name: str, place: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _content(shape: Shape | None) -> dict[str, Any]:
    return {} if shape is None else {"schema": shape.to_json()}
