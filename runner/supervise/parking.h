// A session stands still while a client takes a snapshot of it. The supervisor's half: control.h, Park.
#pragma once

#include <string>

#include "isolate/start.h"
#include "isolate/sys/fd.h"
#include "runner/events/writer.h"
#include "runner/supervise/calls.h"

namespace runner::supervise {

struct Request;

/// Lets PID 1 park, and says all that a restore needs of it. Throws when PID 1 ends instead.
std::string parked_record(Calls& calls, isolate::Sandbox& sandbox, int control, const Request& request, std::uint64_t ran_ms);
/// The seccomp filters of a plan, in one word that changes with them.
std::string describe_filters(const isolate::Plan& plan, const std::string& cache);
void send_record(int client, const std::string& record);

enum class Parking { GoesOn, Suspended };
/// Waits for the client's word: a client that is gone, or a PID 1 that has died, means "go on".
Parking await_parking(int client, int pidfd);
void answer_parking(int client);
events::SnapshotCreated parse_created(const std::string& json);

/// pidfd_getfd(2).
isolate::sys::Fd take_descriptor(int pidfd, int number);

}  // namespace runner::supervise
