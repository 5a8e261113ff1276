"""A config.json as typed reads: a needed key that is missing is refused by name, no library's default is taken."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from catalog.errors import BadInput

Json = Mapping[str, object]


class MissingKey(BadInput):
    """config.json leaves a shape to the defaults of a library, which we do not guess."""


class Config(Struct, frozen=True):
    """The text part of a config.json. `where` names the file or repository in errors."""

    values: Json
    where: str

    def integer(self, *names: str) -> int:
        """The first of these keys that is present, as a positive integer."""
        found = self.optional_integer(*names)
        if found is None:
            raise MissingKey(f"config.json has no `{'` or `'.join(names)}`", f"{self.where}:{names[0]}")
        return found

    def optional_integer(self, *names: str) -> int | None:
        """The same, None where every key is absent or null."""
        for name in names:
            value = self.values.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise BadInput(f"expected a whole number for `{name}`, got {value!r}", f"{self.where}:{name}")
            return value
        return None

    def count(self, *names: str) -> int:
        """A number that is 0 where the key is absent or null."""
        return self.optional_integer(*names) or 0

    def flag(self, name: str) -> bool:
        """A boolean that must be there."""
        value = self.values.get(name)
        if not isinstance(value, bool):
            raise MissingKey(f"config.json has no true or false in `{name}`", f"{self.where}:{name}")
        return value

    def says(self, name: str) -> bool:
        """A boolean that is false where the key is absent or null."""
        return self.values.get(name) is True

    def words(self, *names: str) -> tuple[str, ...]:
        """A list with one word (or number) per layer; empty where every key is absent."""
        for name in names:
            value = self.values.get(name)
            if isinstance(value, (list, tuple)):
                return tuple(str(item) for item in value)
        return ()

    def text(self, name: str) -> str:
        """A string, empty where the key is absent."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""


def section(values: Json, name: str) -> Json:
    """A nested object; empty where it is absent or no object."""
    value = values.get(name)
    return value if isinstance(value, Mapping) else {}


def text_part(config: Json) -> Json:
    """The decoder's own keys: those of `text_config` (or its kin) over those of the file."""
    for name in ("text_config", "llm_config", "language_config"):
        if section(config, name):
            return {**config, **section(config, name)}
    return config
