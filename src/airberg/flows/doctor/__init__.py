"""`airberg airflow doctor`: whether Airberg and its Airflow can work together, and what is wrong if not."""
