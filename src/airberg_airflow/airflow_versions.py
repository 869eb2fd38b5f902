"""Names of Airflow's SDK that not all supported versions (3.1 to 3.3) have in the same place."""

from __future__ import annotations

try:
    from airflow.sdk import CronTriggerTimetable
except ImportError:  # 3.1: timetables are not yet names of the SDK
    from airflow.timetables.trigger import CronTriggerTimetable

try:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
except ImportError:  # 3.1: nor are these
    from airflow.exceptions import AirflowException, AirflowFailException, AirflowSkipException

__all__ = ["AirflowException", "AirflowFailException", "AirflowSkipException", "CronTriggerTimetable"]
