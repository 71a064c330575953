# How every C file of the project is compiled and linked: hardened, and to the same bytes in whatever directory. Included by the
# top Makefile and by libpq/front.mk; blocks on nothing.

# Without optimization the C library has no fortified functions, and says so.
FORTIFY   := $(if $(filter -O0,$(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDEN_C  := -fstack-protector-strong -Wformat -Werror=format-security $(FORTIFY)
HARDEN_LD := -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--build-id=sha1
# Paths in debug information and messages are relative to the project.
PREFIX_MAP := -ffile-prefix-map=$(CURDIR)=.
