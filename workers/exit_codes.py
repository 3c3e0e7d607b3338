"""What a command's exit code tells; the help and docs/command-line.md say the same."""

USUAL, FAILED, BAD_INPUT, NO_REDIS, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_CODES = {
    USUAL: "all is well",
    FAILED: "something asked for did not come about",
    BAD_INPUT: "bad input or settings; nothing was done",
    NO_REDIS: "Redis cannot be reached",
    INTERRUPTED: "interrupted by Ctrl-C",
}
