// See runner/precompiled.h.
#include "runner/precompiled.h"

#include <doctest/doctest.h>
