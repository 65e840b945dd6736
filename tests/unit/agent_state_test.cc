// What a job is on the disk: checkpoints that add up to it, a journal that survives a torn line, and answers.
#include "runner/agent/state.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <set>

#include "isolate/sys/file.h"
#include "runner/agent/drive.h"
#include "runner/agent/store.h"
#include "runner/agent/told.h"
#include "runner/events/verify.h"

using namespace runner::agent;

namespace {

struct Folder {
  std::string path;
  Folder() {
    char name[] = "/tmp/agent-state-XXXXXX";
    path = ::mkdtemp(name);
    for (const char* each : {"/checkpoints", "/blobs", "/exchanges"}) ::mkdir((path + each).c_str(), 0700);
  }
  ~Folder() { isolate::sys::remove_tree(path); }
};

Message said(Role role, const std::string& text) { return {role, {Text{text}}}; }

// A job of two checkpoints, the second in the middle of a turn.
Job two_checkpoints(std::string& first, std::string& second) {
  Job job;
  job.id = "j";
  Run& run = job.runs["r1"];
  run.id = "r1", run.expert = "e", run.query = "do it";
  job.seq = 1, job.head = "aaa";
  first = encode_checkpoint(job, {"r1", {said(Role::User, "do it")}, true}, "", 0);
  run.step = 1, run.todo = R"([{"text":"x","done":false}])";
  Turn turn;
  turn.message = {Role::Assistant, {Text{"well"}, ToolCall{"c1", "exec", "{\"argv\":"}, Opaque{"anthropic", "m", R"({"type":"thinking"})"}}};
  turn.calls = {{"t1", {"c1", "exec", "{\"argv\":"}, CallState::AwaitingCaller, "approval", false, {}, {}, {}, {}, {}},
                {"t2", {"c2", "x", "{}"}, CallState::Done, {}, false, {}, {}, {}, {}, ToolResult{"c2", true, {Text{"no"}, Image{"image/png", "AA=="}}}}};
  run.turn = turn;
  job.seq = 2, job.head = "bbb", run.usage = {1, 2, 3, 4, 1}, run.cost = 9;
  sum_up(job);
  job.services["r1/files"] = {"mcp-r1-files", "legacy", "2025-06-18", 17, 4};
  second = encode_checkpoint(job, {"r1", {said(Role::Assistant, "a"), said(Role::Tool, "b")}, false}, "aaa", 1);
  return job;
}

}  // namespace

TEST_SUITE("agent state") {
  TEST_CASE("checkpoints add up to the job that wrote them") {
    std::string first, second;
    Job was = two_checkpoints(first, second), is;
    is.id = "j";
    apply_checkpoint(is, first);
    apply_checkpoint(is, second);
    CHECK(is.seq == 2);
    CHECK(is.usage == was.usage);
    CHECK(is.services == was.services);
    const Run& run = is.runs.at("r1");
    CHECK(run.query == "do it");
    CHECK(run.turn == was.runs.at("r1").turn);
    CHECK(run.todo == was.runs.at("r1").todo);
    CHECK(run.messages == std::vector<Message>{said(Role::User, "do it"), said(Role::Assistant, "a"), said(Role::Tool, "b")});
  }

  TEST_CASE("a checkpoint of another job, or that does not follow, is refused") {
    std::string first, second;
    two_checkpoints(first, second);
    Job other;
    other.id = "k";
    CHECK_THROWS_WITH(apply_checkpoint(other, first), "it is of job j");
    Job gap;
    gap.id = "j";
    CHECK_THROWS_WITH(apply_checkpoint(gap, second), "it does not follow the one before it");
  }

  TEST_CASE("a job is loaded from HEAD back to its beginning, and a missing checkpoint is an error") {
    Folder folder;
    Store store(folder.path);
    std::string first, second;
    two_checkpoints(first, second);
    CHECK(store.load("j").seq == 0);
    isolate::sys::replace_file(store.file("checkpoints/00000001-aaa.json"), first, 0600);
    isolate::sys::replace_file(store.file("checkpoints/00000002-bbb.json"), second, 0600);
    isolate::sys::replace_file(store.file("HEAD"), "00000002-bbb\n", 0600);
    CHECK(store.load("j").seq == 2);
    CHECK(store.load("j", "00000001-aaa").seq == 1);
    ::unlink(store.file("checkpoints/00000001-aaa.json").c_str());
    CHECK_THROWS_WITH(store.load("j"), ("checkpoint " + folder.path + "/checkpoints/00000001-aaa.json of job j is missing: the job cannot go on from it").c_str());
    isolate::sys::replace_file(store.file("checkpoints/00000001-aaa.json"), "{", 0600);
    CHECK_THROWS(store.load("j"));
  }

  TEST_CASE("a long payload lies in the blobs, under its digest") {
    Folder folder;
    Store store(folder.path);
    CHECK(store.payload("short \"text\"") == R"("short \"text\"")");
    std::string ref = store.payload(std::string(5000, 'x'));
    CHECK(ref.find(R"({"ref":{"sha256":")") == 0);
    CHECK(isolate::sys::list_dir(folder.path + "/blobs").size() == 1);
    CHECK(store.payload(std::string(5000, 'x')) == ref);
    CHECK(isolate::sys::list_dir(folder.path + "/blobs").size() == 1);
  }

  TEST_CASE("a journal is read again, and half a line at its end is cut off") {
    Folder folder;
    std::string path = folder.path + "/journal";
    {
      Journal journal(path);
      journal.add('I', "t1", "exec");
      journal.add('R', "t1", R"({"a":"b c"})");
    }
    std::ofstream(path, std::ios::app) << "R t2 {\"half";
    Journal again(path);
    REQUIRE(again.before().size() == 2);
    CHECK(again.before()[1].rest == R"({"a":"b c"})");
    again.add('R', "t2", "{}");
    CHECK(Journal(path).before().size() == 3);
    std::ofstream(path, std::ios::app) << "nonsense\n";
    CHECK_THROWS(Journal{path});
  }

  TEST_CASE("what is announced is durable: a checkpoint is there when its event is written, and a full disk announces nothing") {
    Folder folder;
    Store store(folder.path);
    struct Watch : runner::events::Sink {
      Store& store;
      std::vector<bool> there;
      explicit Watch(Store& s) : store(s) {}
      void line(const runner::events::Line& line) override {
        if (line.text.find("checkpoint.saved") != std::string_view::npos) there.push_back(store.head() == "00000001-aaa");
      }
    };
    runner::events::Writer writer("runner/job/j");
    auto watch = std::make_unique<Watch>(store);
    Watch& seen = *watch;
    writer.add(std::move(watch));
    Ledger ledger(store, std::move(writer));
    ledger.commit("00000001-aaa", "{}", {1, "aaa", "r1", 0, "proceeding", {}});
    ledger.drain();
    CHECK(seen.there == std::vector<bool>{true});
    isolate::sys::remove_tree(folder.path + "/checkpoints");
    ledger.commit("00000002-bbb", "{}", {2, "bbb", "r1", 0, "proceeding", {}});
    CHECK_THROWS(ledger.drain());
    CHECK(seen.there.size() == 1);
    CHECK(store.head() == "00000001-aaa");
  }

  TEST_CASE("what a record has said behind the last checkpoint of a run is not said again; what may come again is") {
    Folder folder;
    std::string log = folder.path + "/events.ndjson";
    runner::events::Writer writer = runner::events::Writer::create(log, "runner/job/j");
    writer.write(runner::events::JobStarted{"j", "e", {"\"q\""}, "script", "m", "", "", {}});
    writer.write(runner::events::StepStarted{"r1", 1});
    writer.write(runner::events::CheckpointSaved{1, "aaa", "r1", 1, "proceeding", {}});
    writer.write(runner::events::StepStarted{"r1", 2});
    runner::events::GenerationFinished generation;
    generation.run = "r1", generation.generation = 2;
    writer.write(generation);
    Told told = read_told(log);
    CHECK(told.checkpoint == "00000001-aaa");
    CHECK(told.behind == std::set<std::string>{"generation.finished 2", "step.started \"r1\" 2"});
    CHECK(told.behind.count(told_once(generation)) == 1);
    CHECK(told.behind.count(told_once(runner::events::StepStarted{"r1", 1})) == 0);
    CHECK(told_once(runner::events::JobPaused{}).empty());
    CHECK(!is_last(log, "job.paused"));
    writer.write(runner::events::JobPaused{"j", 1, {}, {}, 0});
    CHECK(is_last(log, "job.paused"));
    CHECK(read_told(log).paused);
  }

  TEST_CASE("a last word that its writer had no time to seal was not said: it is cut off, and the record verifies") {
    Folder folder;
    std::string log = folder.path + "/events.ndjson";
    runner::events::Writer writer = runner::events::Writer::create(log, "runner/job/j");
    writer.write(runner::events::JobStarted{"j", "e", {"\"q\""}, "script", "m", "", "", {}});
    CHECK(!has_ended(log));
    std::string before = isolate::sys::read_file(log + ".head");
    writer.write(runner::events::JobEnded{"j", "success", 0, {}, 1, {}, {}, 1});
    CHECK(has_ended(log));
    isolate::sys::replace_file(log + ".head", before, 0600);
    CHECK(!has_ended(log));
    CHECK(runner::events::verify_log(log).ok);
    CHECK(!is_last(log, "job.ended"));
  }

  TEST_CASE("a checkpoint of one run says nothing of what another has used") {
    Job job;
    job.id = "j", job.seq = 1, job.head = "aaa";
    Run &lead = job.runs["r1"], &child = job.runs["r1.1"];
    lead.id = "r1", child.id = "r1.1", child.parent = "r1";
    std::string first = encode_checkpoint(job, {"r1", {}, true}, "", 0);
    lead.usage = {100, 0, 0, 10, 0}, child.usage = {7, 0, 0, 3, 0};  // the lead's is in no checkpoint yet
    sum_up(job);
    job.seq = 2, job.head = "bbb";
    std::string second = encode_checkpoint(job, {"r1.1", {}, true}, "aaa", 1);
    Job is;
    is.id = "j";
    apply_checkpoint(is, first);
    apply_checkpoint(is, second);
    CHECK(is.usage == Usage{7, 0, 0, 3, 0});
  }

  TEST_CASE("answers come as one object, as many in an array, or one a line; each mistake is named") {
    CHECK(read_answers(R"({"call":"t1","ok":true})").size() == 1);
    CHECK(read_answers(R"([{"call":"t1","ok":true},{"call":"t2","ok":false}])").size() == 2);
    CHECK(read_answers("{\"call\":\"t1\",\"ok\":true}\n\n{\"call\":\"t2\",\"ok\":true}\n").size() == 2);
    CHECK_THROWS_WITH(read_answers(R"([{"call":"t1","ok":true},{"call":"t1","ok":true}])"), "call t1 is answered twice");
    CHECK_THROWS_WITH(read_answers(R"({"call":"t1"})"), "the answer to call t1 does not say whether it is ok");
    CHECK_THROWS(read_answers(R"({"ok":true})"));
    CHECK_THROWS(read_answers(R"({"call":"t1","ok":true,"content":"yes"})"));
    CHECK_THROWS(read_answers(R"({"call":"t1","ok":true,"more":1})"));
    CHECK_THROWS(read_answers("{\"call\":\"t1\",\"ok\":true}\nnonsense"));
  }
}
