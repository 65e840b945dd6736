// A plan as JSON, for `runner plan` and for golden tests. Fields that say nothing are left out.
#pragma once

#include <string>

#include "runner/plan/session_plan.h"

namespace runner::plan {

std::string to_json(const SessionPlan& plan);

}  // namespace runner::plan
