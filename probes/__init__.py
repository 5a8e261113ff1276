"""What is true of a machine, a checkpoint or a repository now, answered in catalogue types."""
