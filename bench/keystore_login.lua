-- The same login again and again; its body is the file that is named after "--".
function init(arguments)
  local file = assert(io.open(arguments[1], "r"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  wrk.headers["Content-Type"] = "application/json"
  file:close()
end
