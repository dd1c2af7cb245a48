-- A new version of one of 1000 secrets with each request.
local count = 0
local headers

function init()
  headers = wrk.headers
  headers["Content-Type"] = "application/json"
end

function request()
  count = count + 1
  local path = "/v1/secret/data/written/" .. (count % 1000)
  local body = '{"data":{"username":"static-user","password":"static-password-' .. count .. '"}}'
  return wrk.format("POST", path, headers, body)
end
