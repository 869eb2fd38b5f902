"""Metadata files are there whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import datahub.metadata.schema_classes as aspects
import pytest
from datahub.emitter.mcp import MetadataChangeProposalWrapper
from datahub.specific.dataset import DatasetPatchBuilder

from airberg.errors import Unavailable
from airberg.governance.files import FileSink

DATASET = "urn:li:dataset:(urn:li:dataPlatform:iceberg,a.b,PROD)"
PROPOSAL = MetadataChangeProposalWrapper(
    entityUrn="urn:li:tag:größe", aspect=aspects.TagKeyClass(name="größe")
)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    """The target cannot be replaced (it is a folder): the temporary file is gone, the message has no urn."""
    folder = tmp_path / str(UUID(int=1))
    target = folder / f"{UUID(int=2)}.json"
    target.mkdir(parents=True)
    with pytest.raises(Unavailable) as caught:
        FileSink(tmp_path).send(UUID(int=1), UUID(int=2), [PROPOSAL])
    assert str(target) in caught.value.message
    assert list(folder.iterdir()) == [target]


def test_files_are_readable_text(tmp_path: Path) -> None:
    """UTF-8 as it is written, readable by others than us."""
    path = Path(FileSink(tmp_path).send(UUID(int=1), UUID(int=2), [PROPOSAL]))
    assert "größe" in path.read_text(encoding="utf-8")
    assert path.stat().st_mode & 0o444 == 0o444


def test_patches_keep_what_they_are(tmp_path: Path) -> None:
    """Read by DataHub's own source, a patch is one, of its content type; an UPSERT is the aspect."""
    tag = aspects.TagAssociationClass(tag="urn:li:tag:größe")
    (patch,) = DatasetPatchBuilder(DATASET).add_tag(tag).build()
    path = FileSink(tmp_path).send(UUID(int=1), UUID(int=2), [PROPOSAL, patch])
    upsert, read = (MetadataChangeProposalWrapper.from_obj(o) for o in json.loads(Path(path).read_text()))
    assert upsert.aspect == PROPOSAL.aspect
    assert (read.changeType, read.aspect.contentType) == ("PATCH", "application/json-patch+json")
    assert json.loads(read.aspect.value) == json.loads(patch.aspect.value)
