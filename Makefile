# watchdog: heartbeats between PostgreSQL and its client hosts.
#
# The two commands that do everything on a Debian machine with Go are `make demo` and `make test`; `make help` lists the rest.

PG_CONFIG ?= pg_config
GO        ?= go
prefix    ?= /usr/local
DESTDIR   ?=

B        := build
VERSION  := 1.0

# Recursive: pg_config may only be there after `make deps`.
pkglibdir  = $(shell $(PG_CONFIG) --pkglibdir)
sharedir   = $(shell $(PG_CONFIG) --sharedir)
pg_include = $(shell $(PG_CONFIG) --includedir-server)
pg_version = $(shell $(PG_CONFIG) --version)

CC       ?= cc
CFLAGS   ?= -O2 -g
C_STRICT := -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -fPIC
GOFLAGS_  := -trimpath
# asyncpreemptoff: Go must not take SIGURG, with which PostgreSQL wakes latches (docs/design.md).
GO_SO     = -buildmode=c-shared -tags netgo,osusergo$(GO_TAGS) -ldflags '-X runtime.godebugDefault=asyncpreemptoff=1'

EXT_SRC  := $(wildcard extension/*.c)
EXT_HDR  := $(wildcard extension/*.h)
GO_LIB   := $(wildcard cgo/*.go worker/*.go terminator/*.go heartbeat/*.go) extension/bridge.h go.mod
GO_BIN   := $(wildcard cmd/*/*.go conmgr/*.go control/*.go heartbeat/*.go) go.mod

.DEFAULT_GOAL := all
.PHONY: all install uninstall clean deps demo test lint fuzz bench help faults FORCE

all: $(B)/watchdog.so $(B)/watchdog_go.so $(B)/conmgr $(B)/cm_ctl  ## build everything into build/

# Which server it was built for: another one means building again.
$(B)/pg_version: FORCE
	@mkdir -p $(B)
	@$(PG_CONFIG) --version >/dev/null 2>&1 || { echo "$(PG_CONFIG) was not found: run 'make deps' first, or set PG_CONFIG" >&2; exit 1; }
	@echo '$(pg_version) $(pg_include)' | cmp -s - $@ || echo '$(pg_version) $(pg_include)' > $@

$(B)/watchdog.so: $(EXT_SRC) $(EXT_HDR) extension/exports.map $(B)/pg_version Makefile
	$(CC) $(C_STRICT) $(CFLAGS) -isystem $(pg_include) -shared -Wl,--version-script=extension/exports.map -o $@ $(EXT_SRC) -lpthread -ldl

$(B)/conmgr $(B)/cm_ctl: $(GO_BIN) Makefile
	@mkdir -p $(B)
	CGO_ENABLED=0 $(GO) build $(GOFLAGS_) -o $@ ./cmd/$(@F)

# The heartbeat library that obeys requests for faults: tests only, never installed.
faults: $(B)/faults/watchdog_go.so  ## build the test library with faults on request
$(B)/faults/watchdog_go.so: GO_TAGS := ,faults
$(B)/faults/watchdog_go.so $(B)/watchdog_go.so: $(GO_LIB) Makefile
	@mkdir -p $(@D)
	$(GO) build $(GOFLAGS_) $(GO_SO) -o $@ ./cgo
	@rm -f $(@D)/watchdog_go.h

# A module that only tests load.
$(B)/test/watchdog_test.so: test/module/watchdog_test.c $(B)/pg_version
	@mkdir -p $(@D)
	$(CC) $(C_STRICT) $(CFLAGS) -isystem $(pg_include) -shared -o $@ test/module/watchdog_test.c
