# Compiler settings that hold for every target.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1 -DNDEBUG")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g1")

# By hand: CMake would give libraries -fPIC, and precompiled headers must be built one way.
add_compile_options(-fPIE)
add_link_options(-pie)
add_compile_options(-Wall -Wextra -Werror -Wno-missing-field-initializers -fstack-protector-strong
                    -ffunction-sections -fdata-sections)
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  add_compile_options(-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # -Wmaybe-uninitialized and friends misfire on std::optional and absl::StatusOr in g++ 12.
  add_compile_options(-Wno-maybe-uninitialized -Wno-restrict -Wno-stringop-overflow
                      -Wno-array-bounds -Wno-dangling-pointer)
endif()
if(COFFER_SANITIZE)
  add_compile_options(-fsanitize=${COFFER_SANITIZE} -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${COFFER_SANITIZE})
  if(COFFER_SANITIZE MATCHES thread)
    add_compile_options(-Wno-tsan)  # Boost.Asio's fences, which it knows nothing of
  endif()
endif()

find_program(COFFER_MOLD mold)
if(COFFER_MOLD AND NOT COFFER_FUZZ)
  add_link_options(-fuse-ld=mold)
elseif(COFFER_FUZZ)
  add_link_options(-fuse-ld=lld)
endif()
add_link_options(-Wl,--gc-sections -Wl,--as-needed -Wl,-z,relro -Wl,-z,now)

find_program(COFFER_CCACHE ccache)
if(COFFER_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${COFFER_CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  else()
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:SHELL:-Xclang -fno-pch-timestamp>")
  endif()
endif()

# The names and numbers of this machine's system calls, for common/hardening.cc.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -dM -E -x c++ -include sys/syscall.h /dev/null
                OUTPUT_VARIABLE macros COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "#define __NR_[a-z0-9_]+ [0-9]+" macros "${macros}")
list(TRANSFORM macros REPLACE "#define __NR_([a-z0-9_]+) ([0-9]+)" "{\"\\1\", \\2}")
list(JOIN macros ",\n" macros)
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/generated/system_calls.inc CONTENT "${macros}\n" @ONLY)

# coffer_archives(<regex>)
#   Has the imported shared libraries of such names linked as the archives beside them, where these
#   are: of some seventy libraries a program then holds what it uses, and no pages of each besides.
#   All C++ of a program is linked so; OpenSSL and libc stay shared, for their security updates.
function(coffer_archives regex)
  get_directory_property(imported IMPORTED_TARGETS)
  list(FILTER imported INCLUDE REGEX "${regex}")
  foreach(target IN LISTS imported)
    get_target_property(type ${target} TYPE)
    if(NOT type STREQUAL "SHARED_LIBRARY")
      continue()
    endif()
    get_target_property(location ${target} LOCATION)
    string(REGEX REPLACE "\\.so(\\.[0-9.]+)?$" ".a" archive "${location}")
    if(EXISTS ${archive})
      get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
      foreach(configuration IN LISTS configurations)
        set_target_properties(${target} PROPERTIES IMPORTED_LOCATION_${configuration} ${archive})
      endforeach()
    endif()
  endforeach()
endfunction()
