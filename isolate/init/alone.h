// PID 1 of a container that has no supervisor (`runner-init -- PROGRAM ARGUMENT…`): what docker's --init does.
#pragma once

namespace isolate::init {

/// Runs the program as a child, with the terminal's foreground if there is one; reaps what is orphaned and passes signals on until that
/// child has ended. Its exit status, or 128 and its signal; 126 or 127 when it cannot be executed, with the reason on stderr.
int run_alone(char* const* argv);

}  // namespace isolate::init
