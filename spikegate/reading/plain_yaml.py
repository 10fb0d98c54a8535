"""YAML for settings and tables: a key that is given twice, and a value that no type can hold, are errors with their place."""

from __future__ import annotations

from typing import Any

import yaml


class PlainYaml(yaml.SafeLoader):
    """`yaml.load(text, PlainYaml)` raises a `yaml.YAMLError` for all that it does not take, `RecursionError` for nesting without end."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is given twice", key.start_mark)
            seen.append(name)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as e:  # dates that do not exist, numbers of thousands of digits
            raise yaml.constructor.ConstructorError(None, None, str(e), node.start_mark) from None
