"""The settings about secrets that configurations refer to; part of `airberg.settings.Settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class SecretRule(BaseModel):
    """Lets an owner of jobs use secrets of this deployment in his source configurations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    owner: Annotated[str, Field(min_length=1)] = Field(description="The owner, or `*` for all.")
    scheme: Literal["env", "file", "vault", "aws-sm"] = Field(description="Where the secrets are.")
    prefix: Annotated[str, Field(min_length=1)] = Field(
        description="What their names begin with, as written after `secret://SCHEME/`."
    )


class SecretSettings(BaseModel):
    """References to secrets in source configurations: who may use which, and where they are.

    [Secret references](../how-to/secret-references.md) tells how they are written. Variables that they may
    name begin with `AIRBERG_SECRET_`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[SecretRule, ...] = Field(
        (),
        description='Who may use which secrets; without a rule nobody: `[{"owner": "ada@example.com", '
        '"scheme": "vault", "prefix": "kv/sales/"}]`. `"*"` is every owner.',
    )
    files_dir: Path = Field(Path("/run/secrets"), description="Folder of `secret://file/...`.")
    vault_url: str | None = Field(None, description="Address of Vault or OpenBao.")
    vault_kv1_mounts: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="Where key-value engines of version 1 are mounted in Vault, such as `legacy`; any other "
        "place is read as one of version 2.",
    )
    vault_namespace: str | None = Field(None, description="Namespace in Vault.")
    vault_token: SecretStr | None = Field(
        None, description="Token for Vault; default the token file, AppRole, else `VAULT_TOKEN`."
    )
    vault_token_file: Path | None = Field(None, description="File with the token, kept fresh by an agent.")
    vault_role_id: str | None = Field(None, description="Role id of an AppRole in Vault.")
    vault_secret_id: SecretStr | None = Field(None, description="Its secret id.")
    aws_region: str | None = Field(None, description="Region of AWS Secrets Manager; default boto3's.")
    aws_profile: str | None = Field(None, description="Profile of the AWS credentials; default boto3's.")
    aws_endpoint: str | None = Field(None, description="Address of the service, if it is not AWS's own.")
    timeout_s: Annotated[float, Field(gt=0)] = Field(5.0, description="Seconds a store may take to answer.")
    attempts: int = Field(2, gt=0, description="How often a store is asked before it counts as away.")
