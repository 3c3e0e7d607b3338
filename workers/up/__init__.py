"""`subtokens up`: Redis, workers and beat on one machine, kept running until they are stopped."""
