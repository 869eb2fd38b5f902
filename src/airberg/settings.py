"""Configuration, read once from the environment and passed down.

Every setting is an environment variable with the prefix `AIRBERG_`; groups are joined with two
underscores: `AIRBERG_API__PORT=8001`. A file named by `AIRBERG_ENV_FILE` is read too (the environment
wins). Nothing in Airberg reads the environment after `load_settings`, but for the secrets that references
name (`AIRBERG_SECRET_...`).
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from airberg.api.limit_settings import LimitSettings
from airberg.api.metrics_settings import MetricsSettings
from airberg.flows.airflow_settings import AirflowSettings
from airberg.flows.kubernetes_settings import KubernetesSettings
from airberg.governance.datahub_settings import DataHubSettings
from airberg.governance.openlineage.lineage_settings import OpenLineageSettings
from airberg.identity.access_settings import AccessSettings, AuthSettings
from airberg.keys.address import parse_kek_address
from airberg.plan.readers import cannot_read, reader_problem
from airberg.sources.hosts import HostRules
from airberg.sources.secret_settings import SecretSettings

Positive = Annotated[int, Field(gt=0)]
PortNumber = Annotated[int, Field(ge=1, le=65535)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _without_problem(value: str, problem: str | None) -> str:
    if problem is not None:
        raise ValueError(problem)
    return value


class ApiSettings(_Group):
    """The HTTP service."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; beyond loopback only with `auth.mode` oidc."
    )
    port: PortNumber = Field(8000, description="Port to listen on.")
    public_url: str | None = Field(None, description="Address that users see; default http://HOST:PORT.")
    build_number: str = Field("0", max_length=100, description="Of your image, for `/api/health/ping`.")
    max_body_bytes: Positive = Field(1_048_576, description="Larger request bodies are answered 413.")
    registration_wait_s: float = Field(
        20.0, description="Seconds that a POST waits for the flow to appear; 29 with its checks at most."
    )
    reconcile_every_s: float = Field(5.0, description="How often jobs and flows are compared.")
    max_log_followers: Positive = Field(
        50, description="Logs of runs that are followed at once; more are answered 429."
    )
    max_preflights: Positive = Field(4, description="Preflights at once; more are answered 429.")
    max_table_questions: Positive = Field(
        4, description="Questions about states and tables at once; more are answered 429."
    )
    tables_timeout_s: Annotated[float, Field(gt=0)] = Field(
        25.0, description="Seconds that an answer about states and tables, or a rewind, may take."
    )


class CatalogSettings(_Group):
    """The Iceberg catalog, in pyiceberg's own words.

    With `properties` empty and `name` other than `airberg`, pyiceberg's configuration file and
    `PYICEBERG_CATALOG__*` variables decide, as for any other pyiceberg program.
    """

    name: str = Field("airberg", description="Name of the catalog, as pyiceberg knows it.")
    properties: dict[str, str] = Field(
        default_factory=dict,
        description="Properties of pyiceberg's `load_catalog`; default SQLite and a folder in HOME.",
    )


class SourceSettings(_Group):
    """Connectors: where they live and how long they may take to answer."""

    connectors_dir: Path | None = Field(None, description="Default HOME/connectors.")
    connectors_file: Path | None = Field(None, description="Own connectors; default HOME/connectors.toml.")
    pyairbyte_dir: Path | None = Field(None, description="PyAirbyte's environment; default HOME/pyairbyte.")
    custom_components: bool = Field(
        False, description="`true`: declared manifests may load Python code of their own (custom components)."
    )
    container_engine: str | None = Field(
        None, description="Command that runs images, `docker` or `podman`; default the first that is there."
    )
    container_network: str = Field(
        "bridge", description="Network of these containers: `--network` of the engine."
    )
    container_options: tuple[str, ...] = Field(
        (), description='More options of the engine\'s `run`: `["--security-opt", "label=disable"]`.'
    )
    preflight_timeout_s: float = Field(25.0, description="Seconds for all checks of a POST.")
    discovered_holds_s: float = Field(
        300.0,
        description="Seconds for which the streams that a discover found are used for an ingest with the "
        "same configuration, without asking the source again; 0: never. Kept in memory alone.",
    )
    discover_timeout_s: float = Field(300.0, description="Seconds for finding the streams in a run.")
    rediscover_after_s: float = Field(
        900.0, description="A run asks the source for its streams again when the plan is older."
    )
    protected_temp_dir: Path | None = Field(
        None,
        description="Temporary files of connectors in jobs that protect or drop columns; default in memory "
        "(/dev/shm), where there is such a folder.",
    )
    idle_timeout_s: float = Field(3600.0, description="A connector that is silent for so long is ended.")
    read_timeout_s: float = Field(
        7 * 86_400.0,
        gt=0,
        description="A read that takes longer is ended; the next attempt goes on from the last checkpoint.",
    )
    # Wide enough that no connector of the tests comes near them; see docs/explanation/connector-isolation.md.
    max_memory_bytes: int = Field(
        4 * 1024**3, ge=0, description="Resident memory of a connector with all its processes; 0: no limit."
    )
    max_disk_bytes: int = Field(
        20 * 1024**3,
        ge=0,
        description="A connector's temporary files together, and each file that it writes; 0: no limit.",
    )
    max_open_files: int = Field(
        4096, ge=0, description="Open files and sockets of each process of a connector; 0: as inherited."
    )
    max_processes: int = Field(256, ge=0, description="Processes of a connector at once; 0: no limit.")
    max_log_bytes: int = Field(
        1024**3, ge=0, description="What a connector may write beside its answer or its data; 0: no limit."
    )
    allowed_hosts: tuple[str, ...] | None = Field(
        None,
        description='Hosts that connectors may reach: `["*.example.com", "db.example.com:5432", '
        '"10.1.0.0/16"]`; default: all. '
        "[Confine connectors](../how-to/confine-connectors.md) tells what holds when.",
    )
    network_namespace: bool = Field(
        False,
        description="`true`: connectors run in a network of their own (Linux), whose only way out is the "
        "proxy that holds `allowed_hosts`.",
    )

    @model_validator(mode="after")
    def _hosts_are_rules(self) -> SourceSettings:
        if self.allowed_hosts is not None:
            HostRules(self.allowed_hosts)
        elif self.network_namespace:
            raise ValueError("network_namespace needs allowed_hosts")
        return self


class SyncSettings(_Group):
    """How a run moves rows. A commit happens at the first STATE message after either limit."""

    batch_rows: Positive = Field(50_000, description="Records that are converted at once.")
    compiled_reader: bool = Field(
        True, description="`false`: read records in Python alone; several times slower, same results."
    )
    checkpoint_seconds: float = Field(300.0, description="Commit at the first STATE message after this time.")
    checkpoint_bytes: Positive = Field(512 * 1024 * 1024, description="Or after so many bytes are staged.")
    target_file_bytes: Positive = Field(128 * 1024 * 1024, description="Size at which a data file is closed.")
    key_memory_mb: Annotated[int, Field(ge=16)] = Field(
        128, description="Memory for the keys of a run's merges; what is more goes to HOME/spill."
    )
    lease_seconds: float = Field(30.0, description="How long a silent run keeps others from its job.")


class MergeSettings(_Group):
    """How jobs merge that do not say it themselves."""

    delete_format: Literal["position", "vector", "copy-on-write"] | None = Field(
        None,
        description="How rows go: `position`-delete files, deletion `vector`s, or files written anew "
        "(`copy-on-write`). Default: what `readers` read, else `position`.",
    )
    readers: tuple[str, ...] = Field(
        (),
        description='[Engines](../how-to/merge.md#what-reads-what) that read the tables: `["spark", '
        '"trino:455"]`.',
    )
    deletes: Literal["hard", "soft"] = Field(
        "hard", description="`soft`: rows that the source deleted stay, with `_ab_cdc_deleted_at` set."
    )
    skip_unchanged: bool = Field(False, description="Rows that came again without a change are not written.")

    @model_validator(mode="after")
    def _readers_read(self) -> MergeSettings:
        for reader in self.readers:
            if problem := reader_problem(reader):
                raise ValueError(problem)
        if self.delete_format and (unread := cannot_read(self.delete_format, self.readers)):
            raise ValueError(f"{unread[0]} is not known to read the delete format {self.delete_format}")
        return self


class UpkeepSettings(_Group):
    """When and how tables are looked after. Properties of a table go before the sizes and ages here.

    The flow `airberg_upkeep` looks after the tables of all jobs on a schedule, `airberg tables` when called.
    """

    enabled: bool = Field(True, description="`false`: there is no such flow.")
    schedule: str = Field("30 3 * * *", description="Cron expression with five fields, or a preset.")
    timezone: str = Field("UTC", description="IANA name of the schedule's time zone.")
    parallelism: Positive = Field(1, description="Jobs whose tables the flow looks after at once.")
    dry_run: bool = Field(False, description="`true`: upkeep only says what it would do.")
    target_file_bytes: Positive | None = Field(
        None, description="Size that compaction gives data files; default `sync.target_file_bytes`."
    )
    small_file_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.75, description="A data file below this part of the target is small."
    )
    min_input_files: Annotated[int, Field(ge=2)] = Field(
        5, description="So many small files of a partition are written together."
    )
    delete_fraction: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1, description="A data file with this part of its rows deleted is written anew."
    )
    max_delete_files: Positive = Field(
        10, description="A data file that more delete files apply to is written anew."
    )
    max_group_bytes: Positive = Field(
        1024 * 1024 * 1024, description="Files that are written, and sorted, together."
    )
    commit_bytes: Positive = Field(
        8 * 1024 * 1024 * 1024, description="Compaction commits when it has rewritten so much."
    )
    expire_age_days: Annotated[float, Field(ge=0)] = Field(7, description="Younger snapshots stay.")
    expire_keep: Positive = Field(20, description="So many of the newest snapshots stay, however old.")
    orphan_age_days: Annotated[float, Field(ge=1)] = Field(
        3,
        description="Files that no snapshot names stay for so long, and for as long as a run may take "
        "(`airflow.task_timeout_s`).",
    )
    manifest_target_bytes: Positive = Field(8 * 1024 * 1024, description="Size that manifests should have.")
    min_manifests: Annotated[int, Field(ge=2)] = Field(
        25, description="So many small manifests are written together."
    )

    @field_validator("schedule")
    @classmethod
    def _runs(cls, value: str) -> str:
        from airberg.flows.schedule import check_schedule  # a setting is seldom given: not loaded by all

        return _without_problem(value, check_schedule(value))

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        from airberg.flows.schedule import check_timezone

        return _without_problem(value, check_timezone(value))


class RunLogSettings(_Group):
    """Logs of runs, kept in the job store beside the orchestrator's, for `GET /api/runs/{id}/logs`."""

    keep_days: Annotated[float, Field(ge=0, le=36_500)] = Field(30, description="Older lines are removed.")
    max_lines: Positive = Field(20_000, description="Lines that are kept of one attempt, and its last ones.")
    max_bytes: Positive = Field(5_000_000, description="How large these lines may be together.")


class KeySettings(_Group):
    """Column encryption: the key-encryption key that wraps the data keys, and how to reach it.

    [Key management](../how-to/key-management.md) tells how addresses are written and what each service needs.
    """

    master_key: SecretStr | None = Field(
        None,
        description="32 bytes in base64, several with commas between: the first one wraps, all of them "
        "unwrap; default HOME/secrets/master.key.",
    )
    default_key: str = Field("default", description="Key of encryptions that name none; made when missing.")
    kek: str = Field(
        "local",
        description="What wraps data keys: `local` (the master key), or the address of a key in AWS KMS "
        "(`aws-kms://`), Vault or OpenBao (`vault-transit://`), Google Cloud KMS (`gcp-kms://`), or a "
        "PKCS#11 module (`pkcs11://`).",
    )
    previous_keks: tuple[str, ...] = Field(
        (), description="Addresses that may still unwrap, until `airberg keys rewrap` has been run."
    )
    kek_timeout_s: Annotated[float, Field(gt=0)] = Field(
        10.0, description="Seconds that a key service may take for one answer."
    )
    kek_attempts: Positive = Field(
        3, description="How often a key service is asked before it counts as away."
    )
    vault_token: SecretStr | None = Field(
        None, description="Token for Vault; default AppRole, else what hvac finds (`VAULT_TOKEN`)."
    )
    vault_role_id: str | None = Field(None, description="Role id of an AppRole in Vault.")
    vault_secret_id: SecretStr | None = Field(None, description="Its secret id.")
    pkcs11_pin: SecretStr | None = Field(None, description="PIN of the user of the PKCS#11 token.")

    @field_validator("kek")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parse_kek_address(value)
        return value

    @field_validator("previous_keks")
    @classmethod
    def _are_addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for address in value:
            parse_kek_address(address)
        return value


class Settings(BaseSettings):
    """All settings of a deployment."""

    model_config = SettingsConfigDict(
        env_prefix="AIRBERG_",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(Path(".airberg"), description="Folder of all embedded parts.")
    store_url: str | None = Field(None, description="SQLAlchemy URL; default SQLite in HOME.")
    token: SecretStr | None = Field(
        None,
        description="Access token of who reads encrypted columns here (`airberg.read_table`, `airberg tables "
        "show`); an argument goes before it.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged.")
    log_format: Literal["auto", "json", "console", "plain"] = Field(
        "auto",
        description="How lines of the log are written. `auto`: those of the service as `console` in a "
        "terminal, else as `json`; those of other commands `plain`, for the logs of flows.",
    )
    api: ApiSettings = ApiSettings()
    limits: LimitSettings = LimitSettings()
    metrics: MetricsSettings = MetricsSettings()
    auth: AuthSettings = AuthSettings()
    access: AccessSettings = AccessSettings()
    catalog: CatalogSettings = CatalogSettings()
    airflow: AirflowSettings = AirflowSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    datahub: DataHubSettings = DataHubSettings()
    openlineage: OpenLineageSettings = OpenLineageSettings()
    sources: SourceSettings = SourceSettings()
    sync: SyncSettings = SyncSettings()
    merge: MergeSettings = MergeSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    run_logs: RunLogSettings = RunLogSettings()
    keys: KeySettings = KeySettings()
    secrets: SecretSettings = SecretSettings()

    @model_validator(mode="after")
    def _absolute_home(self) -> Settings:
        object.__setattr__(self, "home", self.home.expanduser().absolute())
        return self

    # ---- places that follow from `home` ------------------------------------------------------------------

    @property
    def secrets_dir(self) -> Path:
        """Keys and passwords that this deployment made for itself; mode 0700."""
        return self.home / "secrets"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the job store."""
        return self.store_url or f"sqlite:///{self.home / 'airberg.db'}"

    @property
    def catalog_properties(self) -> dict[str, str]:
        """Properties for `pyiceberg.catalog.load_catalog`."""
        if self.catalog.properties or self.catalog.name != "airberg":
            return dict(self.catalog.properties)
        return {
            "type": "sql",
            "uri": f"sqlite:///{self.home / 'catalog.db'}",
            "warehouse": f"file://{self.home / 'warehouse'}",
        }

    @property
    def connectors_dir(self) -> Path:
        """Environments of connectors, one per connector and version."""
        return self.sources.connectors_dir or self.home / "connectors"

    @property
    def registry_file(self) -> Path:
        """Where a snapshot of connectors newer than the package's is kept (`airberg sources refresh`)."""
        return self.home / "registry.json"

    @property
    def connectors_file(self) -> Path:
        """Declarations of own connectors."""
        return self.sources.connectors_file or self.home / "connectors.toml"

    @property
    def pyairbyte_dir(self) -> Path:
        """PyAirbyte's environment."""
        return self.sources.pyairbyte_dir or self.home / "pyairbyte"

    @property
    def metadata_dir(self) -> Path:
        """Change-proposal files, one folder per job, one file per run."""
        return self.home / "metadata"

    @property
    def upkeep_spill_dir(self) -> Path:
        """Rows that are being sorted by compaction."""
        return self.home / "spill" / "upkeep"

    @property
    def archive_dir(self) -> Path:
        """Raw records of runs with `archive_staging`."""
        return self.home / "archive"

    @property
    def api_url(self) -> str:
        """Address of our own API as others on this machine reach it."""
        return f"http://{self.api.host}:{self.api.port}"

    @property
    def public_url(self) -> str:
        """Address of our own API as users see it."""
        return (self.api.public_url or self.api_url).rstrip("/")

    @property
    def airflow_url(self) -> str:
        """Address of Airflow's API."""
        return (self.airflow.url or f"http://{self.airflow.host}:{self.airflow.port}").rstrip("/")

    @property
    def airflow_public_url(self) -> str:
        """Address of Airflow as users see it: the base of `flow_url`."""
        return (self.airflow.public_url or self.airflow_url).rstrip("/")

    @property
    def retry_delay(self) -> timedelta:
        """Wait before Airflow tries a failed run again."""
        return timedelta(seconds=self.airflow.retry_delay_s)


def load_settings() -> Settings:
    """Read the settings from the environment, and from the file that `AIRBERG_ENV_FILE` names.

    Raises:
        pydantic.ValidationError: A variable does not have the type it should; values are not shown.
    """
    return Settings(_env_file=os.environ.get("AIRBERG_ENV_FILE"))


def settings_environment(settings: Settings) -> dict[str, str]:
    """The variables that give a child process the same settings, secrets of the deployment among them.

    No configuration of a source is: those are in the job store, sealed.
    """
    ours = ("AIRBERG_", "PYICEBERG_", "OPENLINEAGE_")
    given = {k: v for k, v in os.environ.items() if k.startswith(ours)}
    return given | {"AIRBERG_HOME": str(settings.home)}
