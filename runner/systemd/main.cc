// runner-systemd: asks systemd for the scope that a container lives in. A program of its own, since D-Bus comes with libraries that
// no other start should pay for.
//
//   runner-systemd start [--user] UNIT SLICE DESCRIPTION PROPERTY...   prints the scope's cgroup and keeps the scope until stdin ends
//   runner-systemd set   [--user] UNIT PROPERTY...
//   runner-systemd stop  [--user] UNIT
//
// PROPERTY is NAME=TYPE:VALUE, TYPE being t (a number) or ay (bytes in hexadecimal). See org.freedesktop.systemd1(5).
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr const char* kManager = "org.freedesktop.systemd1";
constexpr const char* kPath = "/org/freedesktop/systemd1";
constexpr const char* kInterface = "org.freedesktop.systemd1.Manager";
constexpr std::uint64_t kPatience = 60'000'000;  // microseconds for one job of systemd's

struct Failure : std::runtime_error {
  Failure(const std::string& what, std::string name = {}) : std::runtime_error(what), name(std::move(name)) {}
  std::string name;  // of the D-Bus error
};

int check(int result, const std::string& attempted) {
  if (result < 0) throw Failure(attempted + ": " + std::strerror(-result));
  return result;
}

struct Message {
  sd_bus_message* it = nullptr;
  ~Message() { sd_bus_message_unref(it); }
};

struct Property {
  std::string name, type, value;
};

Property parse(const std::string& text) {
  std::size_t equals = text.find('='), colon = text.find(':', equals);
  if (equals == std::string::npos || colon == std::string::npos) throw Failure("property '" + text + "' is not NAME=TYPE:VALUE");
  return {text.substr(0, equals), text.substr(equals + 1, colon - equals - 1), text.substr(colon + 1)};
}

void append(sd_bus_message* message, const Property& property) {
  const auto& [name, type, value] = property;
  std::string attempted = "set " + name;
  if (type == "t") {
    std::uint64_t number = 0;
    if (auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number); error != std::errc() || *end) throw Failure(attempted + ": not a number");
    check(sd_bus_message_append(message, "(sv)", name.c_str(), "t", number), attempted);
  } else if (type == "ay") {
    std::vector<std::uint8_t> bytes;
    for (std::size_t at = 0; at + 1 < value.size(); at += 2) bytes.push_back(static_cast<std::uint8_t>(std::stoi(value.substr(at, 2), nullptr, 16)));
    check(sd_bus_message_open_container(message, 'r', "sv"), attempted);
    check(sd_bus_message_append_basic(message, 's', name.c_str()), attempted);
    check(sd_bus_message_open_container(message, 'v', "ay"), attempted);
    check(sd_bus_message_append_array(message, 'y', bytes.data(), bytes.size()), attempted);
    check(sd_bus_message_close_container(message), attempted);
    check(sd_bus_message_close_container(message), attempted);
  } else {
    throw Failure(attempted + ": type '" + type + "' is not known");
  }
}

class Manager {
 public:
  explicit Manager(bool of_user) {
    check(of_user ? sd_bus_open_user(&bus_) : sd_bus_open_system(&bus_), of_user ? "reach the user's systemd over D-Bus" : "reach systemd over D-Bus");
    // Before a job is asked for: systemd tells of its end only once.
    check(sd_bus_match_signal(bus_, nullptr, kManager, kPath, kInterface, "JobRemoved", on_removed, this), "listen to systemd's jobs");
  }
  ~Manager() { sd_bus_flush_close_unref(bus_); }
  Manager(const Manager&) = delete;

  Message request(const char* method) {
    Message message;
    check(sd_bus_message_new_method_call(bus_, &message.it, kManager, kPath, kInterface, method), method);
    return message;
  }

  // Returns the answer, which is valid until the next one.
  sd_bus_message* ask(const Message& message, const std::string& attempted) {
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message_unref(answer_);
    answer_ = nullptr;
    if (sd_bus_call(bus_, message.it, 0, &error, &answer_) >= 0) return answer_;
    Failure failure(attempted + ": " + (error.message ? error.message : "no answer"), error.name ? error.name : "");
    sd_bus_error_free(&error);
    throw failure;
  }

  // For a request that is answered with a job.
  void ask_and_wait(const Message& message, const std::string& attempted) {
    const char* path = nullptr;
    check(sd_bus_message_read(ask(message, attempted), "o", &path), attempted);
    std::string job = path;
    while (!ended_.count(job)) {
      int handled = check(sd_bus_process(bus_, nullptr), attempted);
      if (handled == 0 && check(sd_bus_wait(bus_, kPatience), attempted) == 0) throw Failure(attempted + ": systemd's job does not end");
    }
    if (ended_[job] != "done") throw Failure(attempted + ": systemd's job ended with '" + ended_[job] + "'");
  }

 private:
  static int on_removed(sd_bus_message* message, void* self, sd_bus_error*) {
    std::uint32_t id = 0;
    const char *job = nullptr, *unit = nullptr, *result = nullptr;
    if (sd_bus_message_read(message, "uoss", &id, &job, &unit, &result) >= 0) static_cast<Manager*>(self)->ended_[job] = result;
    return 0;
  }

  sd_bus* bus_ = nullptr;
  sd_bus_message* answer_ = nullptr;
  std::map<std::string, std::string> ended_;  // job -> result
};

void reset_failed(Manager& manager, const std::string& unit) {
  Message request = manager.request("ResetFailedUnit");
  check(sd_bus_message_append(request.it, "s", unit.c_str()), "ResetFailedUnit");
  try {
    manager.ask(request, "forget unit " + unit);
  } catch (const Failure&) {
    // It has not failed, or is gone.
  }
}

Message request_scope(Manager& manager, const std::string& unit, const std::string& slice, const std::string& description, const std::vector<Property>& properties) {
  Message request = manager.request("StartTransientUnit");
  sd_bus_message* m = request.it;
  std::string attempted = "describe unit " + unit;
  check(sd_bus_message_append(m, "ss", unit.c_str(), "fail"), attempted);
  check(sd_bus_message_open_container(m, 'a', "(sv)"), attempted);
  check(sd_bus_message_append(m, "(sv)", "Description", "s", description.c_str()), attempted);
  if (!slice.empty()) check(sd_bus_message_append(m, "(sv)", "Slice", "s", slice.c_str()), attempted);
  check(sd_bus_message_append(m, "(sv)", "PIDs", "au", 1, static_cast<std::uint32_t>(::getpid())), attempted);
  check(sd_bus_message_append(m, "(sv)", "DefaultDependencies", "b", 0), attempted);
  // What is in the group is the runtime's; that systemd counts keeps the controllers enabled for it.
  for (const char* name : {"Delegate", "CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"})
    check(sd_bus_message_append(m, "(sv)", name, "b", 1), attempted);
  for (const Property& property : properties) append(m, property);
  check(sd_bus_message_close_container(m), attempted);
  check(sd_bus_message_append(m, "a(sa(sv))", 0), attempted);
  return request;
}

void start(Manager& manager, const std::string& unit, const std::string& slice, const std::string& description, const std::vector<Property>& properties) {
  for (int tries = 0;; ++tries) {
    try {
      return manager.ask_and_wait(request_scope(manager, unit, slice, description, properties), "start unit " + unit);
    } catch (const Failure& failure) {
      // One of this name that has just ended is forgotten in a moment, and one that failed when it is told to be.
      if (failure.name != "org.freedesktop.systemd1.UnitExists" || tries == 20) throw;
      reset_failed(manager, unit);
      timespec moment{0, 50'000'000};
      ::nanosleep(&moment, nullptr);
    }
  }
}

// In v2, or in systemd's own hierarchy of v1.
std::string own_group() {
  std::ifstream groups("/proc/self/cgroup");
  std::string found;
  for (std::string line; std::getline(groups, line);) {
    std::string path = line.substr(std::min(line.find(':', line.find(':') + 1) + 1, line.size()));
    if (line.rfind("0::", 0) == 0 && path != "/") return path;
    if (line.find(":name=systemd:") != std::string::npos) found = path;
  }
  return found;
}

void set(Manager& manager, const std::string& unit, const std::vector<Property>& properties) {
  Message request = manager.request("SetUnitProperties");
  std::string attempted = "change unit " + unit;
  check(sd_bus_message_append(request.it, "sb", unit.c_str(), 1), attempted);
  check(sd_bus_message_open_container(request.it, 'a', "(sv)"), attempted);
  for (const Property& property : properties) append(request.it, property);
  check(sd_bus_message_close_container(request.it), attempted);
  manager.ask(request, attempted);
}

void stop(Manager& manager, const std::string& unit) {
  Message request = manager.request("StopUnit");
  check(sd_bus_message_append(request.it, "ss", unit.c_str(), "replace"), "StopUnit");
  try {
    manager.ask_and_wait(request, "stop unit " + unit);
  } catch (const Failure& failure) {
    if (failure.name != "org.freedesktop.systemd1.NoSuchUnit") throw;
  }
  reset_failed(manager, unit);
}

int run(std::vector<std::string> args) {
  std::string verb = args.empty() ? "" : args[0];
  bool of_user = args.size() > 1 && args[1] == "--user";
  args.erase(args.begin(), args.begin() + std::min<std::ptrdiff_t>(std::ssize(args), 1 + of_user));
  std::size_t named = verb == "start" ? 3 : 1;
  if ((verb != "start" && verb != "set" && verb != "stop") || args.size() < named) throw Failure("only runner starts this");
  std::vector<Property> properties;
  for (std::size_t i = named; i < args.size(); ++i) properties.push_back(parse(args[i]));
  Manager manager(of_user);
  if (verb == "set") return set(manager, args[0], properties), 0;
  if (verb == "stop") return stop(manager, args[0]), 0;
  start(manager, args[0], args[1], args[2], properties);
  std::printf("%s\n", own_group().c_str());
  std::fflush(stdout);
  char nothing;
  while (::read(0, &nothing, 1) > 0) {}
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 1;
  }
}
