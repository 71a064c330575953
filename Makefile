# watchdog: heartbeats between PostgreSQL and its client hosts.
#
# The two commands that do everything on a Debian machine with Go are `make demo` and `make test`; `make help` lists the rest.
# A client host needs `make client` and `make install-client` only, a database host `make server` and `make install-server`.

PG_CONFIG ?= pg_config
GO        ?= go
prefix    ?= /usr/local
DESTDIR   ?=

B        := build
VERSION  := $(shell scripts/version)

# Recursive: pg_config may only be there after `make deps`.
pkglibdir  = $(shell $(PG_CONFIG) --pkglibdir)
sharedir   = $(shell $(PG_CONFIG) --sharedir)
pg_include = $(shell $(PG_CONFIG) --includedir-server)
pg_version = $(shell $(PG_CONFIG) --version)
# What the server's own C means by a signed overflow or an aliased pointer; its warnings and paths are not ours.
PG_CFLAGS  = $(filter-out -W% -O% -g% -I% -flto% -ffat-lto% -ffile-prefix-map=% -fdebug-prefix-map=%,$(shell $(PG_CONFIG) --cflags))

CC       ?= cc
CFLAGS   ?= -O2 -g
C_STRICT := -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -fPIC
# The version control's state is left out: an archive of the sources builds to the same bytes.
GOFLAGS_  := -trimpath -buildvcs=false
GO_PIE    := -buildmode=pie
GO_LD      = -ldflags '$(if $(GO_PIE),-bindnow) -X github.com/pgwatchdog/watchdog/cm.Version=$(VERSION)'
# asyncpreemptoff: Go must not take SIGURG, with which PostgreSQL wakes latches (docs/design.md).
# No build id of Go's own: with cgo it depends on the build directory, as nothing else does; the linker's is there.
GO_SO     = -buildmode=c-shared -tags netgo,osusergo$(GO_TAGS) \
	-ldflags "-buildid= -X runtime.godebugDefault=asyncpreemptoff=1 -extldflags '$(HARDEN_LD)'"

EXT_SRC  := $(wildcard extension/*.c)
EXT_HDR  := $(wildcard extension/*.h)
GO_LIB   := $(wildcard cgo/*.go worker/*.go terminator/*.go heartbeat/*.go heartbeat/*/*.go internal/*/*.go) extension/bridge.h go.mod
GO_BIN   := $(wildcard cmd/*/*.go cm/*.go conmgr/*.go conmgr/*/*.go control/*.go heartbeat/*.go heartbeat/*/*.go internal/*/*.go conmgr/web/page/*) go.mod

.DEFAULT_GOAL := all
.PHONY: all client server install install-client install-server uninstall uninstall-client uninstall-server \
	reproducible clean deb install-test deps demo test check check-unit lint analyze mutate mutate-fast simulate test-patroni test-monitoring fuzz vulncheck bench bench-quick bench-against bench-programs help faults testmodule test-regress release-1.0 FORCE

include libpq/front.mk

all: client server  ## build everything into build/

client: $(B)/conmgr $(B)/cm_ctl front  ## build what a client host needs: conmgr, cm_ctl, the libpq front (libpq-dev, no server headers)

server: $(B)/watchdog.so $(B)/watchdog_go.so  ## build what a database host needs: the extension, for the server of PG_CONFIG

# Which server it was built for: another one means building again.
$(B)/pg_version: FORCE
	@mkdir -p $(B)
	@$(PG_CONFIG) --version >/dev/null 2>&1 || { echo "$(PG_CONFIG) was not found: run 'make deps' first, or set PG_CONFIG; a client host needs 'make client' only" >&2; exit 1; }
	@test -e '$(pg_include)/postgres.h' || { echo "the server's headers are not in '$(pg_include)': run 'scripts/deps server' first; a client host needs 'make client' only" >&2; exit 1; }
	@echo '$(pg_version) $(pg_include)' | cmp -s - $@ || echo '$(pg_version) $(pg_include)' > $@

# Which version it says it is: another one means building again.
$(B)/version: FORCE
	@mkdir -p $(B)
	@echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

$(B)/watchdog.so: $(EXT_SRC) $(EXT_HDR) extension/exports.map $(B)/pg_version $(B)/version Makefile hardening.mk
	$(CC) $(PG_CFLAGS) $(C_STRICT) $(HARDEN_C) $(PREFIX_MAP) -DWATCHDOG_VERSION='"$(VERSION)"' $(CFLAGS) -isystem $(pg_include) \
		-shared $(HARDEN_LD) \
		-Wl,--version-script=extension/exports.map $(LDFLAGS) -o $@ $(EXT_SRC) -lpthread -ldl

$(B)/conmgr $(B)/cm_ctl: $(GO_BIN) $(B)/version Makefile
	@mkdir -p $(B)
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_) $(GO_PIE) $(GO_LD) -o $@ ./cmd/$(@F)

# The heartbeat library that obeys requests for faults: tests only, never installed.
faults: $(B)/faults/watchdog_go.so  ## build the test library with faults on request
$(B)/faults/watchdog_go.so: GO_TAGS := ,faults
# The go command does not look at a header of another folder: its sum has to be among what it compares.
BRIDGE_SUM = $(word 1,$(shell cksum < extension/bridge.h))
$(B)/faults/watchdog_go.so $(B)/watchdog_go.so: $(GO_LIB) Makefile hardening.mk
	@mkdir -p $(@D)
	CGO_CFLAGS='$(CFLAGS) $(HARDEN_C) -DWD_BRIDGE_SUM=$(BRIDGE_SUM)' $(GO) build $(GOFLAGS_) $(GO_SO) -o $@ ./cgo
	@rm -f $(@D)/watchdog_go.h

# A module that only tests load.
testmodule: $(B)/test/watchdog_test.so $(B)/test/watchdog_nochain.so $(B)/test/shiftclock.so
$(B)/test/%.so: test/module/%.c $(B)/pg_version
	@mkdir -p $(@D)
	$(CC) $(C_STRICT) $(CFLAGS) -isystem $(pg_include) -shared -o $@ $<

# watchdog.so with the sanitizer for undefined behaviour, which ends the process at the first finding: tests only.
$(B)/ubsan/watchdog.so: $(EXT_SRC) $(EXT_HDR) extension/exports.map $(B)/pg_version
	@mkdir -p $(@D)
	$(CC) $(C_STRICT) $(CFLAGS) -fsanitize=undefined -fno-sanitize-recover=all -static-libubsan -isystem $(pg_include) \
		-shared -Wl,--version-script=extension/exports.map -o $@ $(EXT_SRC) -lpthread -ldl

COMPLETED := conmgr cm_ctl
MAN1 := docs/man/conmgr.1 docs/man/cm_ctl.1
MAN5 := docs/man/conmgr.conf.5
pkgconfigdir ?= $(prefix)/lib/pkgconfig
# The unit's Type; systemd 253 and later wait for the end of a reload with notify-reload.
NOTIFY       ?= notify
RELOAD        = $(if $(filter notify-reload,$(NOTIFY)),ReloadSignal=SIGHUP,ExecReload=/bin/kill -HUP $$MAINPID)
d_bin  = $(DESTDIR)$(prefix)/bin
d_man  = $(DESTDIR)$(prefix)/share/man
d_lib  = $(DESTDIR)$(pkglibdir)
d_front = $(DESTDIR)$(prefix)/lib/connmgr
d_inc  = $(DESTDIR)$(prefix)/include
d_pc   = $(DESTDIR)$(pkgconfigdir)
d_ext  = $(DESTDIR)$(sharedir)/extension
d_bash = $(DESTDIR)$(prefix)/share/bash-completion/completions
# Debian's own zsh looks for packages' files in vendor-completions, and for those below /usr/local here.
zshdir ?= $(prefix)/share/zsh/site-functions
d_zsh  = $(DESTDIR)$(zshdir)
d_share = $(DESTDIR)$(prefix)/share/watchdog

install: install-client install-server  ## install both; DESTDIR, prefix (/usr/local) and PG_CONFIG are honoured

install-client: client  ## install conmgr, cm_ctl, their man pages and samples, and the libpq front into prefix
	install -d $(d_bin) $(d_man)/man1 $(d_man)/man5 $(d_front) $(d_inc) $(d_pc) $(d_share) $(d_bash) $(d_zsh)
	install -m 755 $(B)/conmgr $(B)/cm_ctl $(d_bin)
	install -m 755 $(FRONT_OUT)/libpq.so.5 $(d_front)
	ln -sf libpq.so.5 $(d_front)/libpq.so
	install -m 644 libpq/libpq-cm.h $(d_inc)
	install -m 644 $(B)/libpq-cm.pc $(d_pc)
	install -m 644 $(MAN1) $(d_man)/man1
	install -m 644 $(MAN5) $(d_man)/man5
	install -m 644 packaging/conmgr.conf.sample docs/status.schema.json docs/doctor.schema.json $(d_share)
	install -d $(d_share)/monitoring
	install -m 644 packaging/monitoring/* $(d_share)/monitoring
	for p in $(COMPLETED); do install -m 644 packaging/completion/$$p.bash $(d_bash)/$$p; done
	install -m 644 $(addprefix packaging/completion/_,$(COMPLETED)) $(d_zsh)
	sed 's|@bindir@|$(prefix)/bin|; s|@notify@|$(NOTIFY)|; s|@reload@|$(RELOAD)|' packaging/conmgr@.service.in > $(d_share)/conmgr@.service
	chmod 644 $(d_share)/conmgr@.service

install-server: server  ## install the extension into the PostgreSQL of PG_CONFIG
	install -d $(d_lib) $(d_ext)
	install -m 755 $(B)/watchdog.so $(B)/watchdog_go.so $(d_lib)
	install -m 644 extension/watchdog--*.sql $(d_ext)
	{ echo '# watchdog $(VERSION)'; cat extension/watchdog.control; } > $(d_ext)/watchdog.control
	chmod 644 $(d_ext)/watchdog.control

uninstall: uninstall-client uninstall-server  ## remove what install has installed

uninstall-client:  ## remove what install-client has installed
	rm -rf $(d_front) $(d_share)
	rm -f $(d_inc)/libpq-cm.h $(d_pc)/libpq-cm.pc $(d_bin)/conmgr $(d_bin)/cm_ctl
	rm -f $(addprefix $(d_bash)/,$(COMPLETED)) $(addprefix $(d_zsh)/_,$(COMPLETED))
	rm -f $(addprefix $(d_man)/man1/,$(notdir $(MAN1))) $(addprefix $(d_man)/man5/,$(notdir $(MAN5)))

uninstall-server: $(B)/pg_version  ## remove what install-server has installed
	rm -f $(d_lib)/watchdog.so $(d_lib)/watchdog_go.so
	rm -f $(d_ext)/watchdog.control $(addprefix $(d_ext)/,$(notdir $(wildcard extension/watchdog--*.sql)))

reproducible:  ## build in two directories, the second time from nothing, and compare: minutes
	scripts/reproducible

deb:  ## build Debian's packages for the PostgreSQL versions whose headers are installed, into build/deb/
	scripts/deb

install-test:  ## build and try Debian's packages in clean roots of Debian 12 and 13 (as root): minutes; SUITES=trixie
	scripts/install-test $(SUITES)

clean:  ## remove build/
	rm -rf $(B)

deps:  ## install the Debian packages that are needed (as root), or say which are missing
	@scripts/deps all

demo:  ## show it at work on throwaway servers: less than two minutes, no root needed
	@scripts/deps demo
	@$(MAKE) --no-print-directory all
	$(GO) run ./demo

# Everything, from nothing: packages, build, static checks, unit tests, fuzzing, and the tests of the whole in network namespaces.
test:  ## install what is needed, build, and run all tests (the tests of the whole need root)
	@scripts/deps all
	@$(MAKE) --no-print-directory check

SUITE = $(GO) run ./internal/suite

# Static checks and fuzzing compute while the tests wait.
check: all faults testmodule bench-programs $(B)/ubsan/watchdog.so
	$(SUITE) -race -beside '$(MAKE) --no-print-directory -s lint' -beside '$(MAKE) --no-print-directory -s fuzz'

check-unit:  ## the tests that need neither root, nor a server, nor network namespaces: less than a minute
	$(SUITE) -unit

test-patroni:  ## run beside a real Patroni cluster of three (as root): minutes; ROUNDS=5 repeats the first fault
	@scripts/deps patroni
	@$(MAKE) --no-print-directory all
	ROUNDS=$(ROUNDS) $(GO) test -tags patroni -count=1 -timeout 40m -v ./test/patroni

test-monitoring:  ## a real Prometheus with postgres_exporter, HAProxy and a headless Chromium look at it (as root): minutes
	@scripts/deps monitoring
	@$(MAKE) --no-print-directory all
	$(GO) test -tags monitoring -count=1 -timeout 20m -v ./test/monitoring

mutate:  ## break each stated invariant, and see that a test notices: minutes
	@$(MAKE) --no-print-directory all faults testmodule
	$(GO) run ./internal/mutate

mutate-fast:  ## the same for those that need neither a build nor a server, as CI does
	$(GO) run ./internal/mutate -fast

SECONDS ?= 60
SEED    ?= 0
SIMULATE = $(if $(filter-out 0,$(SEED)),TestRandomSchedules,'TestScenarios|TestKeptSeeds|TestAttacked|TestReportOnly|TestRandomSchedules')
simulate:  ## both ends of the heartbeats on a simulated clock: known faults, an attacker, report-only, then random ones for SECONDS; SEED=n prints that one's transcript
	$(GO) test -count=1 -timeout 24h -v -run $(SIMULATE) ./internal/simulate -args -seconds $(SECONDS) -seed $(SEED) \
		-first $$(date +%s)

test-regress:  ## PostgreSQL's own suites through the libpq front; needs its source: make test-regress PG_SOURCE=/path
	scripts/regress $(PG_SOURCE)

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# It takes what is stored in a structure on the heap for lost: leaks are left to the tests under ASan and valgrind.
ANALYZE = $(CC) -fanalyzer -Wno-analyzer-malloc-leak -Werror $(C_STRICT) -O1 -c -o /dev/null

lint: analyze  ## gofmt, go vet, golangci-lint (.golangci.yml), and the C compiler's analyzer
	@test -z "$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go'))" || { gofmt -l .; echo "run gofmt -w on these" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags faults ./worker
	$(GO) run $(GOLANGCI) run --allow-parallel-runners

# The C compiler's own analyzer, whose every finding is an error. It follows each path: seconds a file.
analyze: $(B)/pg_version $(FRONT_OUT)/libpq.so.5
	for f in $(EXT_SRC); do $(ANALYZE) -isystem $(pg_include) $$f || exit 1; done
	for f in $(FRONT_SRC); do $(ANALYZE) $(FRONT_CFLAGS) $$f || exit 1; done

FUZZTIME ?= 50000x
fuzz:  ## run each fuzz target for FUZZTIME (50000x: that many inputs; 10m: that long)
	scripts/fuzz $(FUZZTIME)

vulncheck:  ## look for known vulnerabilities that the code reaches (fetches their database from the module proxy)
	$(GO) run ./internal/vulncheck

# C programs of the benchmark: applications of libpq, and the floor that a watchdog is measured against.
BENCH_C := $(patsubst bench/c/%.c,$(B)/bench/%,$(wildcard bench/c/*.c))
bench-programs: $(BENCH_C)
$(B)/bench/%: bench/c/%.c
	@mkdir -p $(@D)
	$(CC) $(C_STRICT) $(CFLAGS) -I $(shell $(PG_CONFIG) --includedir) -o $@ $< -L $(shell $(PG_CONFIG) --libdir) -lpq -lpthread

# Version 1.0, for the tests of what meets it.
release-1.0: $(B)/1.0/build/watchdog.so
$(B)/1.0/build/watchdog.so:
	rm -rf $(B)/1.0 && mkdir -p $(B)/1.0 && git archive 68e5260 | tar -x -C $(B)/1.0
	$(MAKE) --no-print-directory -C $(B)/1.0 all > /dev/null

bench:  ## measure it beside HAProxy, PgBouncer and plain libpq, some 40 minutes; writes docs/benchmarks.md, and raw data into build/bench (as root)
	@scripts/deps bench
	@$(MAKE) --no-print-directory all bench-programs
	$(GO) run ./bench

bench-quick:  ## the same with few samples, some 5 minutes; writes build/bench/benchmarks.md
	@scripts/deps bench
	@$(MAKE) --no-print-directory all bench-programs
	$(GO) run ./bench -quick

# The tree of BASE is built aside, in a worktree of its own.
bench-against:  ## measure this build beside that of another commit: make bench-against BASE=v1.0; writes build/bench/benchmarks.md
	@test -n "$(BASE)" || { echo "say which commit: make bench-against BASE=..." >&2; exit 1; }
	@scripts/deps bench
	@$(MAKE) --no-print-directory all bench-programs
	rm -rf $(B)/base && git worktree prune && git worktree add --detach --force $(B)/base $(BASE)
	$(MAKE) --no-print-directory -C $(B)/base all
	$(GO) run ./bench -against $(B)/base/build
	git worktree remove --force $(B)/base

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort | expand -t 12
