# writ: `make run` and `make test` do everything on a bare Debian 12 machine; `make help` lists the rest.
# What the code cannot do without is in NEEDED; CFLAGS stay the builder's.

ifeq ($(origin CC),default)
CC      := gcc
endif
CFLAGS  ?= -O2 -g
B       ?= build
PKGS    := libcrypto libssl jansson libmicrohttpd gnutls libnghttp2 lua5.4 sqlite3 yaml-0.1
WARN    := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wpointer-arith -Wstrict-prototypes \
           -Wmissing-prototypes -Wvla -Wformat=2 -Wno-format-nonliteral -Wundef -Wcast-qual
NEEDED   = -std=c17 -D_GNU_SOURCE -I. $(WARN) $(EXTRA) -fstack-protector-strong -fno-strict-aliasing \
           -fno-common -pthread -MMD -MP $(shell pkg-config --cflags $(PKGS))
LDLIBS   = $(shell pkg-config --libs $(PKGS)) -pthread -lm
SAN     := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
           -ftrivial-auto-var-init=pattern

MAINS   := authz/main.c authz/verifier.c
SRC     := $(filter-out $(MAINS),$(wildcard authz/*.c authz/*/*.c spiffe/*.c))
HDR     := $(wildcard include/writ/*.h authz/*.h authz/*/*.h spiffe/*.h tests/*.h tests/*/*.h)
POLICIES := $(wildcard policies/*.lua policies/catalogue/*.lua)
UNIT    := $(patsubst %.c,$(B)/%,$(wildcard tests/*/test_*.c))
BENCH   := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/bench_*.c))
FUZZ    := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
HELPERS := $(patsubst %.c,$(B)/%.o,$(filter-out $(wildcard tests/*/test_*.c tests/bench/*.c tests/fuzz/*.c),$(wildcard tests/*/*.c)))
WRAP    := $(foreach f,malloc calloc realloc strdup strndup,-Wl,--wrap=$(f))
LINK     = $(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(LDLIBS)

.PHONY: all verifier run demo test check units tsan fuzz soak bench interop lint clean packages help
all: $(B)/writ

$(B)/writ: $(B)/authz/main.o $(B)/libwrit.a ; $(LINK)
$(B)/writ-verify: $(B)/authz/verifier.o $(B)/libwrit.a
	$(CC) $(CFLAGS) $(LDFLAGS) $(if $(findstring sanitize,$(CFLAGS)),,-static -s -Wl,--no-warnings) -o $@ $^ -lcrypto -pthread -lm
$(B)/libwrit.a: $(SRC:%.c=$(B)/%.o) $(B)/embedded.o ; @rm -f $@; $(AR) rcs $@ $^
$(B)/embedded.c: $(POLICIES) scripts/embed ; @mkdir -p $(@D); scripts/embed $(POLICIES) >$@.new && mv $@.new $@
$(B)/embedded.o: $(B)/embedded.c ; $(CC) $(NEEDED) $(CFLAGS) -c -o $@ $<
$(B)/tests/%: $(B)/tests/%.o $(HELPERS) $(B)/libwrit.a ; $(LINK) -lcmocka -ljwt
$(B)/tests/fault/test_%: LDFLAGS += $(WRAP)
$(B)/tests/bench/bench_load: $(patsubst %.c,$(B)/%.o,$(wildcard tests/bench/load*.c))
$(B)/%.o: %.c ; @mkdir -p $(@D); $(CC) $(NEEDED) $(CFLAGS) -c -o $@ $<
.SECONDARY:
-include $(shell find $(B) -type f -name '*.d' 2>/dev/null)

## make run       install missing packages, build, start writ with the example policies in .writ/
run: packages ; @$(MAKE) --no-print-directory $(B)/writ && exec scripts/run $(B)/writ
## make verifier  build/writ-verify: `writ audit verify` alone, as one static file
verifier: packages ; @$(MAKE) --no-print-directory $(B)/writ-verify
## make demo      the whole story in one terminal, against a real server in a temporary folder
demo: packages ; @$(MAKE) --no-print-directory $(B)/writ && exec scripts/demo $(B)/writ
## make test      every test, under AddressSanitizer and UBSan; ends with "N passed, N failed"
test: packages ; @$(MAKE) --no-print-directory check B=build/asan CFLAGS='$(SAN)'
check: units $(B)/writ $(B)/writ-verify $(B)/tests/bench/bench_load ; @scripts/run-tests $(B) $(UNIT) $(wildcard tests/integration/test_*)
units: $(UNIT)
## make tsan      the unit tests, and the server under load, under ThreadSanitizer
tsan: packages
	@$(MAKE) --no-print-directory units build/tsan/writ build/tsan/tests/bench/bench_load \
	  B=build/tsan CFLAGS='-O1 -g -fsanitize=thread'
	@WRIT_STORM=50 setarch -R scripts/run-tests build/tsan $(patsubst $(B)/%,build/tsan/%,$(UNIT)) \
	  tests/integration/test_storms.py
## make fuzz      every fuzz target for FUZZ_SECONDS (20) each
fuzz: packages ; @$(MAKE) --no-print-directory $(FUZZ) && scripts/run-fuzz $(or $(FUZZ_SECONDS),20) $(FUZZ)
build/fuzz/%: tests/fuzz/%.c $(SRC) $(HDR) build/embedded.c
	@mkdir -p $(@D); clang -std=c17 -D_GNU_SOURCE -I. -O1 -g -fsanitize=fuzzer,address,undefined \
	  -fno-sanitize-recover=all $(shell pkg-config --cflags $(PKGS)) -o $@ $< $(SRC) build/embedded.c $(LDLIBS)
## make soak      200 rounds of kill -9 under load, 1,000 activations, 4,000 kinds of damage to a log
soak: packages
	@$(MAKE) --no-print-directory $(B)/writ $(BENCH)
	@WRIT_SOAK=200 WRIT_STORM=1000 WRIT_TAMPER=10000,2600 WRIT_TEST_SECONDS=14400 TEST_TIMEOUT=14400 \
	  scripts/run-tests $(B) tests/integration/test_crash.py tests/integration/test_storms.py \
	  tests/integration/test_tamper.py
## make interop   against programs that others wrote; what is not installed is skipped, by name
interop: packages ; @$(MAKE) --no-print-directory $(B)/writ && scripts/interop/run $(B) $(INTEROP)
## make bench     load generator and server in one run; prints the table of ratios
bench: packages
	@$(MAKE) --no-print-directory $(B)/writ $(BENCH)
	@$(MAKE) --no-print-directory $(B)/unrecorded/writ B=$(B)/unrecorded CFLAGS='$(CFLAGS) -DWRIT_BENCH_UNRECORDED'
	@scripts/bench $(B) $(BENCH_OPTIONS)
## make lint      both compilers' warnings as errors, clang-tidy, cppcheck, format, floors
lint: packages ; @scripts/lint $(HDR) $(MAINS) $(SRC) $(wildcard tests/*/*.c)

packages: ; @scripts/packages
clean: ; rm -rf build
help: ; @sed -n 's/^## //p' Makefile
