// Results that runner has not acknowledged yet. In memory: they go into snapshots with the process.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace runner::tools {

constexpr std::size_t kLargestJournal = 64u << 20;

class Journal {
 public:
  bool full() const { return bytes_ >= kLargestJournal; }

  const std::string* find(const std::string& id) const {
    auto at = results_.find(id);
    return at == results_.end() ? nullptr : &at->second;
  }

  void add(const std::string& id, std::string result) {
    bytes_ += cost(id, result);
    results_.emplace(id, std::move(result));
    ++run_;
  }

  void forget(const std::string& id) {
    auto at = results_.find(id);
    if (at == results_.end()) return;
    bytes_ -= cost(id, at->second);
    results_.erase(at);
    done_.insert(id);
    order_.push_back(id);
    if (order_.size() > kMostDone) done_.erase(order_.front()), order_.pop_front();
  }

  void forget_all() {
    results_.clear();
    done_.clear();
    order_.clear();
    bytes_ = 0;
  }

  /// Made and acknowledged: a copy of the call that was sent by somebody who has died since, and comes only now, is not made.
  bool is_done(const std::string& id) const { return done_.count(id) != 0; }

  std::size_t run() const { return run_; }  ///< calls in the life of this process

 private:
  static std::size_t cost(std::string_view id, std::string_view result) { return id.size() + result.size() + 128; }

  std::unordered_map<std::string, std::string> results_;
  static constexpr std::size_t kMostDone = 4096;
  std::unordered_set<std::string> done_;
  std::deque<std::string> order_;
  std::size_t bytes_ = 0, run_ = 0;
};

}  // namespace runner::tools
