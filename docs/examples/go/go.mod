module example.com/qmp

go 1.19
