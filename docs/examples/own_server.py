"""An MCP server with two tools, on stdin and stdout. `pip install fastmcp`; catalog.json registers it."""

from fastmcp import FastMCP

server = FastMCP("shop")
PRICES = {"pen": 1.5, "notebook": 4.0}


@server.tool(annotations={"readOnlyHint": True})
def quote(item: str, quantity: int = 1) -> float:
    """The price of some items."""
    if item not in PRICES:
        raise ValueError(f"there is no {item}; there are {', '.join(PRICES)}")
    return PRICES[item] * quantity


@server.tool
def order(item: str, quantity: int) -> str:
    """Orders items. It has an effect, so toolfleet sends it once."""
    return f"ordered {quantity} of {item}"


if __name__ == "__main__":
    server.run(show_banner=False)
