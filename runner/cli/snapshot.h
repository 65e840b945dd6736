// The verbs below `runner snapshot`: each has its own flags, and is a function of its own.
#pragma once

#include "runner/cli/context.h"

namespace runner::cli {

int snapshot_check(Context& context);
int snapshot_create(Context& context);
int snapshot_export(Context& context);
int snapshot_import(Context& context);
int snapshot_ls(Context& context);
int snapshot_prune(Context& context);
int snapshot_rm(Context& context);
int snapshot_rotate_key(Context& context);
int snapshot_scan(Context& context);
int snapshot_show(Context& context);
int snapshot_verify(Context& context);

}  // namespace runner::cli
