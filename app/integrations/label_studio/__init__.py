"""The backend for Label Studio: its machine learning contract on our jobs, under `/integrations/label-studio`."""
