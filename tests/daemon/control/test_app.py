"""The application as a whole: its own document describes it."""

from __future__ import annotations

from tests.daemon.control.fakes import client_of, fake_mount


async def test_the_document_lists_every_status_and_the_form_of_errors() -> None:
    async with client_of(fake_mount().app) as client:
        document = (await client.get("/api/v1/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    assert schemas["ErrorBody"]["required"] == ["error"]
    assert "HTTPValidationError" not in schemas
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            errors = {code for code in operation["responses"] if code >= "400"}
            assert {"401", "403", "422", "500"} <= errors, (method, path)
            for code in errors:
                schema = operation["responses"][code]["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}
    body = document["paths"]["/api/v1/torrents"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "application/x-bittorrent"}
    assert "AddTorrent" in schemas


async def test_there_is_no_documentation_from_elsewhere() -> None:
    async with client_of(fake_mount().app) as client:
        for path in ("/docs", "/redoc"):
            assert (await client.get(path)).status_code == 404
