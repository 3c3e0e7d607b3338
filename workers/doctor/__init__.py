"""`subtokens doctor`: looks at a set-up from its settings to its workers, and changes nothing."""
