-- A new version of one of 1000 secrets with each request. They are made beforehand: what the load
-- generator takes of the processors is not the keystore's to use.
local requests = {}
local count = 0

function init()
  wrk.headers["Content-Type"] = "application/json"
  for i = 1, 1000 do
    local body = '{"data":{"username":"static-user","password":"static-password-' .. i .. '"}}'
    requests[i] = wrk.format("POST", "/v1/secret/data/written/" .. i, wrk.headers, body)
  end
end

function request()
  count = count % #requests + 1
  return requests[count]
end
