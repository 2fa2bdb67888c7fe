#include "test/check.h"

int main() { return lockstep::test::run(); }
