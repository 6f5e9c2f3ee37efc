-- Run once by the Postgres image on an empty volume; the database `prefect` is made by the image itself.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_users;
