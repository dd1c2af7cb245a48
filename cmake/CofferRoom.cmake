# coffer_room(<target> [LINK libs...] [NO_PCH])
#   One static library of the .cc files in the current folder (all but main.cc, *_main.cc, *_test.cc
#   and *_fuzz.cc), one ctest program <target>_test of the *_test.cc files, and with COFFER_FUZZ one
#   libFuzzer program per *_fuzz.cc, which ctest runs for COFFER_FUZZ_SECONDS from COFFER_FUZZ_SEED
#   and the valid samples of corpus/<its name>/. What it finds itself it keeps in the build folder.
#   LINK names the rooms to the left and outside libraries; a room that is not linked can't be used,
#   which is how the direction of includes is held.
# coffer_program(<name> [SOURCE main.cc] LINK libs...)
#   A program in build/<preset>/bin/; left out of fuzz builds.
function(coffer_room target)
  cmake_parse_arguments(ROOM "NO_PCH" "" "LINK;TEST_LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS *.cc)
  set(tests ${sources})
  set(fuzzers ${sources})
  list(FILTER sources EXCLUDE REGEX "(^|/|_)main\\.cc$|_test\\.cc$|_fuzz\\.cc$")
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")

  add_library(${target} STATIC ${sources})
  target_include_directories(${target} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(${target} PUBLIC ${ROOM_LINK})
  if(NOT ROOM_NO_PCH)
    target_precompile_headers(${target} REUSE_FROM coffer_pch)
  endif()

  if(tests AND BUILD_TESTING AND NOT COFFER_FUZZ)
    add_executable(${target}_test ${tests})
    target_link_libraries(${target}_test PRIVATE ${target} ${ROOM_TEST_LINK} coffer_test_main)
    target_precompile_headers(${target}_test REUSE_FROM coffer_test_main)
    add_test(NAME ${target} COMMAND ${target}_test --durations no)
    set_tests_properties(${target} PROPERTIES TIMEOUT 300)
  endif()

  if(COFFER_FUZZ)
    set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
    foreach(source IN LISTS fuzzers)
      get_filename_component(name ${source} NAME_WE)
      add_executable(${name} ${source})
      target_link_libraries(${name} PRIVATE ${target} ${ROOM_TEST_LINK})
      target_compile_options(${name} PRIVATE -fsanitize=fuzzer)
      target_link_options(${name} PRIVATE -fsanitize=fuzzer)
      set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
      set(seeds ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${name})
      if(NOT EXISTS ${seeds})
        message(FATAL_ERROR "${name} has no samples to begin with: ${seeds}")
      endif()
      set(found ${CMAKE_BINARY_DIR}/fuzz/corpus/${name})
      file(MAKE_DIRECTORY ${found})
      # libFuzzer writes to the first folder alone. Its timeout is of the wall clock: a minute, as a machine that is
      # shared may stand still for half of one.
      add_test(NAME ${name} COMMAND ${name} ${found} ${seeds} -max_total_time=${COFFER_FUZZ_SECONDS}
                                            -seed=${COFFER_FUZZ_SEED} -rss_limit_mb=2048
                                            -timeout=60 -print_final_stats=1)
      set_tests_properties(${name} PROPERTIES TIMEOUT 300)
    endforeach()
  endif()
endfunction()

function(coffer_program name)
  cmake_parse_arguments(PROGRAM "" "SOURCE" "LINK" ${ARGN})
  if(COFFER_FUZZ)
    return()
  endif()
  if(NOT PROGRAM_SOURCE)
    set(PROGRAM_SOURCE main.cc)
  endif()
  add_executable(${name} ${PROGRAM_SOURCE})
  target_link_libraries(${name} PRIVATE ${PROGRAM_LINK})
  if(NOT COFFER_SANITIZE)
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc)  # see coffer_archives
  endif()
endfunction()
