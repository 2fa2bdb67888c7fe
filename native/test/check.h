// The core's own tests: TEST(name) { CHECK(what must hold); }, TAP on stdout, and
// int main() { return lockstep::test::run(); }.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "error.h"

namespace lockstep::test {

struct Case {
  const char* name;
  void (*body)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

struct CheckFailed : std::exception {};

// Random tests draw from this; its seed is printed, and LOCKSTEP_SEED repeats a run.
inline std::mt19937_64& random() {
  static std::mt19937_64 generator = [] {
    const char* given = getenv("LOCKSTEP_SEED");
    const uint64_t seed = given ? strtoull(given, nullptr, 10) : std::random_device{}();
    printf("# seed: LOCKSTEP_SEED=%llu\n", static_cast<unsigned long long>(seed));
    return std::mt19937_64(seed);
  }();
  return generator;
}

// Up to and without `end`.
inline uint64_t below(uint64_t end) { return std::uniform_int_distribution<uint64_t>(0, end - 1)(random()); }

// The code of the Failure that `body` throws, or "" when it throws none; its message goes to *message.
template <typename Body>
std::string failure_code(Body body, std::string* message = nullptr) {
  try {
    body();
  } catch (const Failure& failure) {
    if (message != nullptr) *message = failure.what();
    return failure.code;
  }
  return "";
}

inline int run() {
  random();
  int number = 0, failed = 0;
  const char* only = getenv("LOCKSTEP_ONLY");  // one test of many, while it is worked on
  for (const Case& test : cases()) {
    if (only && !strstr(test.name, only)) continue;
    std::string why;
    try {
      test.body();
    } catch (const CheckFailed&) {
      why = "check failed";
    } catch (const std::exception& error) {
      why = error.what();
    }
    failed += !why.empty();
    printf("%sok %d - %s\n", why.empty() ? "" : "not ", ++number, test.name);
    if (!why.empty()) printf("  # %s\n", why.c_str());
    fflush(stdout);
  }
  printf("1..%d\n", number);
  return failed == 0 ? 0 : 1;
}

}  // namespace lockstep::test

#define TEST(name)                                                     \
  static void test_##name();                                           \
  [[maybe_unused]] static const bool registered_##name =               \
      (lockstep::test::cases().push_back({#name, test_##name}), true); \
  static void test_##name()

#define CHECK(...)                                                      \
  do {                                                                  \
    if (!(__VA_ARGS__)) {                                               \
      printf("# %s:%d: CHECK(%s)\n", __FILE__, __LINE__, #__VA_ARGS__); \
      throw lockstep::test::CheckFailed();                              \
    }                                                                   \
  } while (0)
