"""FastMCP on stdio with an OpenAPI document as large as GitHub's: 1,224 operations, each of which becomes a tool."""

from fastmcp import FastMCP


def operation(n):
    words = " ".join(f"Sets part {n * 7919 % 9973 + part * 104729 % 7919} of resource {n ^ part}." for part in range(40))
    parameters = [{"name": f"p{part}", "in": "query", "description": words[:200], "schema": {"type": "string"}} for part in range(4)]
    return {"get": {"operationId": f"operation_{n}", "summary": f"Operation {n}", "description": words, "parameters": parameters,
                    "responses": {"200": {"description": "OK"}}}}


document = {"openapi": "3.0.3", "servers": [{"url": "http://127.0.0.1:9"}], "info": {"title": "large", "version": "1"}, "paths": {f"/resource/{n}": operation(n) for n in range(1224)}}
FastMCP.from_openapi(openapi_spec=document).run(show_banner=False)
