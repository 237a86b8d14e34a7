"""The OpenAPI 3.1 document of the administration API, made from the table of its operations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, TypeAdapter

if TYPE_CHECKING:
    from pacs.admin.api import Operation

_REF = "#/components/schemas/{model}"


class Problem(BaseModel):
    """What every refusal says."""

    status: int
    error: str
    reference: str
    todo: str


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """All operations by path and method, with the schemas of what they take and give."""
    schemas: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    refusal = {"description": "Refused, and what to do.", "content": _content(Problem, schemas)}
    for one in operations:
        described: dict[str, Any] = {"summary": one.summary, "operationId": _identity(one), "responses": {"default": refusal}}
        parameters = [*_in_path(one), *_in_query(one, schemas)]
        if parameters:
            described["parameters"] = parameters
        if one.takes is not None:
            described["requestBody"] = {"required": True, "content": _content(one.takes, schemas)}
        if one.gives is None:
            described["responses"]["204"] = {"description": "Done."}
        else:
            described["responses"]["200"] = {"description": "Done.", "content": _content(one.gives, schemas, one.media_type)}
        paths.setdefault(one.path, {})[one.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lightbox administration", "version": "1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _in_path(one: Operation) -> list[dict[str, Any]]:
    names = re.findall(r"\{(\w+)\}", one.path)
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _in_query(one: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if one.asks is None:
        return []
    schema = one.asks.model_json_schema(ref_template=_REF)
    schemas.update(schema.get("$defs", {}))
    properties = schema["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _content(kind: Any, schemas: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    schema = TypeAdapter(kind).json_schema(ref_template=_REF)
    schemas.update(schema.pop("$defs", {}))
    if "title" in schema and schema.get("type") == "object":
        name = schema["title"]
        schemas[name] = schema
        schema = {"$ref": _REF.format(model=name)}
    return {media_type: {"schema": schema}}


def _identity(one: Operation) -> str:
    words = re.findall(r"\w+", one.path.removeprefix("/api/"))
    return "_".join([one.method.lower(), *words])
