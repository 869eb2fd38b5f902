"""How columns are protected: which rule a request leads to, and where it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from airberg.columns.types import BINARY, STRING, ColumnType
from airberg.errors import Problem
from airberg.plan.model import (
    EncryptionMode,
    EncryptRule,
    HashRule,
    MaskRule,
    Path,
    ProtectionRule,
    Transformation,
)
from airberg.quoted import quoted

if TYPE_CHECKING:
    from airberg.plan.transformations import ColumnRules


@dataclass(frozen=True, slots=True)
class AskedEncryption:
    """What was asked of an encryption. The mode is None where the plan is to choose."""

    key_name: str
    mode: EncryptionMode | None = None


AskedProtection: TypeAlias = AskedEncryption | HashRule | MaskRule


def asked_protection(t: Transformation, default_key: str) -> AskedProtection | None:
    """What a transformation asks for; None when it protects nothing."""
    key = t.encryption_key_name or default_key
    match t.transformation_type:
        case "encrypt":
            return AskedEncryption(key, t.encryption_mode)
        case "hash":
            return HashRule(key_name=key)
        case "mask":
            default = MaskRule()
            return MaskRule(
                keep_last=default.keep_last if t.keep_last is None else t.keep_last,
                mask_char=t.mask_char or default.mask_char,
            )
    return None


def protected_type(rule: ProtectionRule | None) -> ColumnType | None:
    """The type that a table has for a protected column; None for one that is not."""
    return None if rule is None else BINARY if isinstance(rule, EncryptRule) else STRING


@dataclass(frozen=True, slots=True)
class ProtectionContext:
    """What protecting a column needs to know: where it lives, and which paths have to stay comparable.

    Attributes:
        qualified_table: Namespace and name of the table.
        keys: What rows are merged by.
        arranged: What the table is partitioned or sorted by.
    """

    qualified_table: str
    keys: frozenset[Path] = frozenset()
    arranged: frozenset[Path] = frozenset()

    def rule(self, path: Path, column_path: Path, asked: AskedProtection | None) -> ProtectionRule | None:
        """How a column is protected.

        Encryption is random where nothing is asked, and bound to its column so that a ciphertext cannot be
        moved elsewhere; what has to stay comparable is deterministic. That is bound to the name of the key,
        so that joins across tables work (facts on encryption, C2).
        """
        if not isinstance(asked, AskedEncryption):
            return asked
        if asked.mode == "deterministic" or (asked.mode is None and path in self.keys | self.arranged):
            return EncryptRule(key_name=asked.key_name, mode="deterministic", aad=asked.key_name)
        aad = ".".join((self.qualified_table, *column_path))
        return EncryptRule(key_name=asked.key_name, mode="random", aad=aad)

    def check(
        self, stream: str, path: Path, source: ColumnType, rule: ColumnRules, problems: list[Problem]
    ) -> None:
        """Refuse what a column cannot be: no longer comparable where it has to be, masked without a text.

        Args:
            stream: The stream, as the caller knows it.
            path: The column.
            source: Its type in the source.
            rule: All that was asked for it.
            problems: What is wrong is added here.
        """
        name = f"{quoted('.'.join(path))} of {quoted(stream)}"
        masked = isinstance(rule.protect, MaskRule)
        if masked and (rule.cast or source) == BINARY:
            problems.append(
                Problem(
                    rule.pointers["mask"],
                    "mask-does-not-fit",
                    f"{name} is binary, and has no characters to mask.",
                    "Hash, encrypt or drop it, or cast it to string.",
                )
            )
        if path in self.keys:
            use, other = "is a merge key", "merge by another column"
        elif path in self.arranged:
            use, other = "is what the table is partitioned or sorted by", "take another column for that"
        else:
            return
        if masked:
            problems.append(
                Problem(
                    rule.pointers["mask"],
                    "mask-does-not-fit",
                    f"{name} {use}, and different values may look the same once they are masked.",
                    f"Hash or encrypt it, or {other}.",
                )
            )
        elif isinstance(rule.protect, AskedEncryption) and rule.protect.mode == "random":
            problems.append(
                Problem(
                    f"{rule.pointers['encrypt']}/encryption_mode",
                    "mode-does-not-fit",
                    f"{name} {use}, and equal values differ once they are encrypted at random.",
                    f"Ask for deterministic or leave encryption_mode out, hash it, or {other}.",
                )
            )
