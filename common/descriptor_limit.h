// The room that a process has for descriptors.
#pragma once

namespace coffer {

// Raises the soft limit to the hard one: a container's runtime may have set 1,024. And has the kernel
// make room for thousands now: once there are threads, each time that it grows a process's table takes
// many milliseconds (synchronize_rcu). To be called before any thread is made. 0, or the errno.
int RaiseDescriptorLimit();

}  // namespace coffer
