"""Collects the classes of an exported source file while its modules are written."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ncp_jax.networks.export.dialects import Dialect, Fields
from ncp_jax.networks.export.layers import unknown
from ncp_jax.networks.network import Form

Writers = Mapping[type, Callable[[Any, "SourceFile"], str]]


@dataclasses.dataclass
class SourceFile:
    """The classes of a file in the making.

    Attributes:
      dialect: the framework.
      form: what the network is for.
      writers: for each kind of module, the function that returns the expression that makes it.
      strided: kinds of ``ConvBatchNorm`` (where their ReLU is) that come with a stride.
      classes: text of each class by name, in the order in which the file has them.
      helpers: names of the functions that classes use.
      branches: channels of the branches that the last stage returns.
    """

    dialect: Dialect
    form: Form
    writers: Writers
    strided: frozenset[str]
    classes: dict[str, str] = dataclasses.field(default_factory=dict)
    helpers: set[str] = dataclasses.field(default_factory=set)
    branches: list[int] = dataclasses.field(default_factory=list)

    def define(self, name: str, doc: str, arguments: str, fields: Fields, inputs: str, body: Sequence[str]) -> str:
        """Adds a class, unless the file has it; returns its name, with a number where another one has it."""
        for number in itertools.count(1):
            full = name if number == 1 else f"{name}{number}"
            text = self.dialect.define(full, doc, arguments, fields, inputs, body)
            if self.classes.setdefault(full, text) == text:
                return full
        raise AssertionError

    def call(self, function: str, *arguments: str) -> str:
        """Returns a call of a function, which the file defines where the framework lacks it."""
        if function in self.dialect.helpers:
            self.helpers.add(function)
        return self.dialect.call(function, *arguments)

    def new(self, module: Any) -> str:
        """Returns the expression that makes a module of ours."""
        if type(module) not in self.writers:
            raise unknown(module)
        return self.writers[type(module)](module, self)
