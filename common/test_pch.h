// Precompiled in every test program.
#pragma once
#include <catch2/catch.hpp>

#include "common/pch.h"
