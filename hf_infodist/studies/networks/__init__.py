"""Networks and pictures that studies train on, change and pair."""
