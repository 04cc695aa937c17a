"""The metadata at the top of a card, and what the Hub's reference of the configuration of Spaces allows there."""

import re
from typing import Any

import yaml

COLOURS = ["red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"]


def front_matter(card: str) -> dict[str, Any]:
    front = re.match(r"---\n(.*?)\n---", card, re.DOTALL)
    return (yaml.safe_load(front[1]) or {}) if front else {}


def wrong_in_space(front: dict[str, Any]) -> list[str]:
    """Say what is wrong with the front matter of a Space, by the Hub's reference of its configuration."""
    rules = {
        "title": isinstance(front.get("title"), str),
        "emoji": len(str(front.get("emoji", "x"))) <= 2,
        "sdk": front.get("sdk") in ("gradio", "docker", "static"),
        "sdk_version": re.fullmatch(r"\d+(\.\d+){1,2}", str(front.get("sdk_version", "6.0"))),
        "python_version": re.fullmatch(r"3\.\d+(\.\d+)?", str(front.get("python_version", "3.10"))),
        "pinned": isinstance(front.get("pinned", False), bool),
        "short_description": len(front.get("short_description", "")) <= 60,
    } | {name: front.get(name, "red") in COLOURS for name in ("colorFrom", "colorTo")}
    return [f'"{name}" is not valid: {front.get(name)!r}' for name, right in rules.items() if not right]
