module coffer/webapp

go 1.24
